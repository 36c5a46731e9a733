"""Keep accumulated gradients in checkpoints: a step may have batches from before and after a resume."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..config.auto_scale_lr import accumulated_iterations
from ..runner.build import unwrap_model
from ..runner.loops import step_is_complete

_KEY = 'gradients'


class AccumulatedGradientsHook(Hook):
    """Save the gradients of an incomplete step (mmengine's ``accumulative_counts``), and restore them.

    An epoch may end within a step; without this a resumed run would lose the batches before its checkpoint.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save them."""
        if not step_is_complete(runner):
            checkpoint[_KEY] = {
                name: parameter.grad.cpu()
                for name, parameter in _parameters_of(runner).items()
                if parameter.grad is not None
            }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore them, unless a step has another number of batches now and begins here."""
        gradients = checkpoint.pop(_KEY, {})
        count = accumulated_iterations(runner.cfg)
        if runner._resume and checkpoint['meta']['iter'] % count:
            parameters = _parameters_of(runner)
            for name, gradient in gradients.items():
                parameters[name].grad = gradient.to(parameters[name])


def _parameters_of(runner: Runner) -> dict[str, nn.Parameter]:
    return dict(unwrap_model(runner.model).named_parameters())
