"""Configs: loading, checking, fitting to data and machine."""
