"""Data sets of ours and checks of other people's."""
