"""Predictions of a trained detector or segmenter on anything, under the name that users know: :mod:`fastervit_backbone.apis.predictor`."""

from .apis.predictor import Predictor
from .structures.prediction import Categories, Prediction

__all__ = ['Categories', 'Prediction', 'Predictor']
