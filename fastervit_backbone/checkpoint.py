"""Public names for weight files, see :mod:`fastervit_backbone.checkpoints.published`."""

from .checkpoints.convert import convert_checkpoint
from .checkpoints.published import LoadReport, check_fit, load_published

__all__ = ['LoadReport', 'check_fit', 'convert_checkpoint', 'load_published']
