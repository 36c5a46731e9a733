"""Predictions of a trained detector or segmenter on anything: arrays, files, folders, videos."""

from .prediction import Categories, Prediction
from .predictor import Predictor

__all__ = ['Categories', 'Prediction', 'Predictor']
