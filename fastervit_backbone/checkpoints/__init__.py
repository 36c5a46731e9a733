"""Weight files: reading, writing, conversion, inference of their arch."""
