"""The learning rate, scaled to the images that one optimizer step sees."""

from mmengine.config import Config

from ...utils.errors import UserError
from ..processes import rank0_print


def accumulated_iterations(config: Config) -> int:
    """Iterations whose gradients make a step of the optimizer."""
    return config.optim_wrapper.get('accumulative_counts', 1)


def scale_learning_rate(config: Config, enabled: bool, processes: int) -> None:
    """Let mmengine scale the learning rate to the images of a step: batch x processes x iterations accumulated; say so."""
    scaling = config.setdefault('auto_scale_lr', {})
    base, lr = scaling.get('base_batch_size'), config.optim_wrapper.optimizer.get('lr')
    batch, parts = config.train_dataloader.batch_size, accumulated_iterations(config)
    for name, value in (('train_dataloader.batch_size', batch), ('optim_wrapper.accumulative_counts', parts)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f'{name} must be a whole number from 1, got {value!r}')
    if lr is not None and not isinstance(lr, int | float):
        raise UserError(f'optim_wrapper.optimizer.lr must be a number, got {lr!r}')
    images = batch * processes
    real = images * parts
    scaling['enable'] = enabled and base is not None
    if base is None or lr is None:
        return
    made = f' ({images} x {parts} accumulated)' if parts > 1 else ''
    if enabled:
        scaling['base_batch_size'] = (
            base / parts if parts > 1 else base
        )  # mmengine counts the images of an iteration
    if real != base and enabled:
        scaled = f'{lr:g} -> {lr * real / base:g}'
        rank0_print(
            f'learning rate {lr:g} is for batch {base}; this run has {real}{made}: {scaled} (--no-auto-scale-lr keeps it)'
        )
    elif real != base:
        rank0_print(
            f'learning rate {lr:g} kept, although it is for batch {base} and this run has {real}{made}'
        )
    iterations = config.train_cfg.get('max_iters')
    if iterations is not None and images != base:
        steps = f', {iterations // parts} steps of {real},' if parts > 1 else ''
        rank0_print(
            f'{iterations} iterations of {images} images{steps} see {images / base:.3g} times what the recipe sees with {base}: '
            f'for as many, set train_cfg.max_iters={round(iterations * base / images)} and the schedule to match'
        )
