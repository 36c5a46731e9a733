"""Batch prediction: one call, a run over folders, its log and its files; the web page."""

from .predict import predict

__all__ = ['predict']
