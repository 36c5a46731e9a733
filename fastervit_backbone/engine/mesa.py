"""MESA: a classifier learns from its own moving average (paper appendix I; Du et al., arXiv 2205.14083).

Importing this module imports mmpretrain.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from ..utils.errors import UserError

#: Of both softmaxes; the authors' training code has this and the factor.
TEMPERATURE, FACTOR = 3.0, 50.0


def mesa_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 50 times the mean divergence of the teacher's softened classes from the student's.

    Unlike in distillation elsewhere, the squared temperature is no factor.

    Args:
        student: logits (B, K).
        teacher: logits (B, K), without gradients.
    """
    log_student = F.log_softmax(student.float() / TEMPERATURE, 1)
    log_teacher = F.log_softmax(teacher.float() / TEMPERATURE, 1)
    return FACTOR * F.kl_div(log_student, log_teacher, reduction='batchmean', log_target=True)


class MESAClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier``, with MESA's loss while :class:`MESAHook` has set a teacher.

    The teacher is no submodule: it is neither in the state dict nor wrapped for parallel training.

    Args:
        coefficient: weight of the loss; larger for larger models.
        options: of ``ImageClassifier``.
    """

    def __init__(self, *, coefficient: float, **options: Any) -> None:
        super().__init__(**options)
        self.coefficient = coefficient
        self._teacher: tuple[nn.Module, ...] = ()

    def set_teacher(self, teacher: nn.Module | None) -> None:
        """Learn from ``teacher``, a classifier of the same structure, or from none."""
        self._teacher = () if teacher is None else (teacher,)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the head's losses, and ``loss_mesa`` if there is a teacher; inputs (B, channels, H, W)."""
        features = self.extract_feat(inputs)
        losses = self.head.loss(features, data_samples)
        for teacher in self._teacher:
            with torch.no_grad():
                logits = teacher.eval()(inputs, mode='tensor')
            losses['loss_mesa'] = self.coefficient * mesa_loss(self.head(features), logits)
        return losses


class MESAHook(Hook):
    """Makes the model of EMAHook the teacher of a ``MESAClassifier`` after a part of the training.

    It follows from the number of the epoch, so that a resumed run has the teacher too.

    Args:
        start: part of the epochs, 0..1, after which the teacher is used (paper appendix I: a quarter).
        epochs: that ``start`` refers to; None: all of the run's.
    """

    def __init__(self, start: float = 0.25, epochs: int | None = None) -> None:
        self.start, self.epochs = start, epochs

    def before_train_epoch(self, runner: Runner) -> None:
        """Set or remove the teacher.

        Raises:
            UserError: there is no EMAHook.
        """
        average = next((hook for hook in runner.hooks if isinstance(hook, EMAHook)), None)
        if average is None:
            raise UserError('MESAHook needs an EMAHook in custom_hooks: its model is the teacher')
        is_active = runner.epoch / (self.epochs or runner.max_epochs) > self.start
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.set_teacher(average.ema_model.module if is_active else None)
