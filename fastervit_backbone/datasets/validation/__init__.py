"""Everything that is wrong with a person's data, said at once: the checks of ``data/`` stop at the first."""
