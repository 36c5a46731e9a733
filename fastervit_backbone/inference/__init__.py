"""Public names for predictions of a trained model, see :mod:`fastervit_backbone.inference.predictor`."""

from ..structures.prediction import Categories, Prediction
from .predictor import Predictor

__all__ = ['Categories', 'Prediction', 'Predictor']
