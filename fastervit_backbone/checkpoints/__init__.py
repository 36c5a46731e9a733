"""Weight files: reading, converting, which arch they are."""
