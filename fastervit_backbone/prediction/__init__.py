"""Batch prediction: a run over folders, its log and its files; the web page."""
