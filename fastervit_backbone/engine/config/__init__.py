"""Configs: loading, checking, and fitting to the data and the machine."""
