"""Options of verbs, documented once: the command line is made of them, and the functions behind it take them.

These files need only the standard library, so that ``fastervit VERB --help`` answers without torch.
"""

from .export import ExportOptions
from .field import flag_of, resolve
from .finetune import FinetuneOptions
from .predict import PredictOptions
from .train import TrainOptions

__all__ = ['ExportOptions', 'FinetuneOptions', 'PredictOptions', 'TrainOptions', 'flag_of', 'resolve']
