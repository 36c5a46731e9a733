"""Metrics per class, confusion matrices, training curves and the HTML report."""
