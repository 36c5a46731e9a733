"""Utilities of all packages: errors, files, console, commit."""
