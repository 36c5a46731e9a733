"""Scale the learning rate to the number of images per optimizer step."""

from mmengine.config import Config

from ...utils.errors import UserError
from ..processes import rank0_print


def accumulated_iterations(config: Config) -> int:
    """Return how many iterations accumulate their gradients for one optimizer step."""
    return config.optim_wrapper.get('accumulative_counts', 1)


def scale_learning_rate(config: Config, enabled: bool, processes: int) -> None:
    """Let mmengine scale the learning rate to the images of a step, and report it.

    A step sees batch size x processes x accumulated iterations.

    Args:
        config: changed in place.
        enabled: False keeps the learning rate.
        processes: of the run.

    Raises:
        UserError: a batch size, accumulation or learning rate that is not a number.
    """
    scaling = config.setdefault('auto_scale_lr', {})
    base, lr = scaling.get('base_batch_size'), config.optim_wrapper.optimizer.get('lr')
    batch, accumulated = config.train_dataloader.batch_size, accumulated_iterations(config)
    counts = {'train_dataloader.batch_size': batch, 'optim_wrapper.accumulative_counts': accumulated}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f'{name} must be an integer of at least 1, got {value!r}')
    if lr is not None and not isinstance(lr, int | float):
        raise UserError(f'optim_wrapper.optimizer.lr must be a number, got {lr!r}')
    scaling['enable'] = enabled and base is not None
    if base is None or lr is None:
        return
    per_iteration = batch * processes
    per_step = per_iteration * accumulated
    if enabled and accumulated > 1:
        # mmengine compares it with the images of an iteration
        scaling['base_batch_size'] = base / accumulated
    if per_step != base:
        factors = f' ({per_iteration} x {accumulated} accumulated)' if accumulated > 1 else ''
        scaled = f'{lr:g} -> {lr * per_step / base:g} (--no-auto-scale-lr keeps it)'
        outcome = scaled if enabled else 'kept'
        rank0_print(f'learning rate {lr:g} is for batch {base}; this run has {per_step}{factors}: {outcome}')
    iterations = config.train_cfg.get('max_iters')
    if iterations is not None and per_iteration != base:
        steps = f' ({iterations // accumulated} steps of {per_step})' if accumulated > 1 else ''
        rank0_print(
            f'{iterations} iterations of {per_iteration} images{steps} see {per_iteration / base:.3g} times '
            f'as many images as the recipe with batch {base}: to match it, set '
            f'train_cfg.max_iters={round(iterations * base / per_iteration)} and adapt the schedule'
        )
