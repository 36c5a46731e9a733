"""Public names for predictions of a trained model, see :mod:`fastervit_backbone.apis.predictor`."""

from .apis.predictor import Predictor
from .structures.prediction import Categories, Prediction

__all__ = ['Categories', 'Prediction', 'Predictor']
