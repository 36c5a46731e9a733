"""What follows the batch: learning rates with their ends, warm-ups and averages that count steps."""

from collections.abc import Iterator, Mapping, Set

from mmengine.config import Config, ConfigDict

from ...utils.errors import UserError
from ..processes import rank0_print
from .reading import as_list

#: Rates that a schedule names as they are; all others are factors of the optimizer's.
_RATES = ('eta_min', 'eta_max', 'min_value')


def accumulated_iterations(config: Config) -> int:
    """Return how many iterations accumulate their gradients for one optimizer step."""
    return config.optim_wrapper.get('accumulative_counts', 1)


def count_in_steps(config: Config) -> list[str]:
    """Let averages and warm-ups count optimizer steps where iterations accumulate their gradients.

    The schedule of a file is for the file's own ``accumulative_counts``; where an option changes them, what
    is counted in iterations, but for the end of the run, is stretched, unless options set the schedule, too.
    An average without ``interval`` is one over steps.

    Args:
        config: changed in place.

    Returns:
        messages on what was changed.

    Raises:
        UserError: the run ends before its warm-up.
    """
    accumulated = accumulated_iterations(config)
    file = getattr(config, 'as_in_file', {})
    before = file.get('accumulated', accumulated)
    if not all(isinstance(count, int) and count > 0 for count in (accumulated, before)):
        return []  # scale_learning_rate reports it
    factor = accumulated / before
    changes = []
    for hook in as_list(config.get('custom_hooks')):
        if is_hook(hook, 'EMAHook') and (accumulated > 1 or factor != 1):
            own = 1 if file.get('custom_hooks_by_option') else factor  # what an option says stays
            stretched = round(hook['interval'] * own) if 'interval' in hook else accumulated
            changes += [f'an average every {stretched} iterations'] * (hook.get('interval') != stretched)
            hook['interval'] = stretched
            if hook.get('begin_iter'):
                hook['begin_iter'] = round(hook['begin_iter'] * own)
    if factor != 1 and not file.get('param_scheduler_by_option'):
        ends = {file.get('max_iters'), config.train_cfg.get('max_iters'), None, 0}
        for schedule in _rates_of(config):
            if not schedule.get('by_epoch', True):
                changes += _stretch(schedule, factor, ends, config.train_cfg.get('max_iters'))
    said = [f'accumulative_counts={accumulated}: {", ".join(changes)}'] if changes else []
    if not file.get('param_scheduler_by_option'):
        said += _end_with_the_run(config, file.get('max_iters'))
    return said


def _end_with_the_run(config: Config, before: int | None) -> list[str]:
    """Let schedules that end with the file's run end with a longer one: their rate would stay at its end."""
    total = config.train_cfg.get('max_iters')
    if before is None or total is None or total <= before:
        return []
    said = []
    for schedule in _rates_of(config):
        if schedule.get('end') == before and not schedule.get('by_epoch', True):
            if schedule.get('T_max') == before - (schedule.get('begin') or 0):
                schedule['T_max'] = total - (schedule.get('begin') or 0)
            if schedule.get('milestones'):
                schedule['milestones'] = [round(m * total / before) for m in schedule['milestones']]
            schedule['end'] = total
            said.append(f'{schedule["type"]} ends with the run: {before} -> {total} iterations')
    return said


def is_hook(hook: object, name: str) -> bool:
    """Whether an item of ``custom_hooks`` is the config of a class of this name."""
    kind = hook.get('type') if isinstance(hook, Mapping) else None
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2] == name


def _stretch(schedule: ConfigDict, factor: float, ends: Set[int | None], total: int | None) -> list[str]:
    """Multiply what a schedule counts in iterations, but for the end of the run; return what was done."""
    said, length = [], (schedule.get('end') or 0) - (schedule.get('begin') or 0)
    for key in ('begin', 'end'):
        if schedule.get(key) in ends:
            continue
        stretched = round(schedule[key] * factor)
        if total is not None and stretched >= total:
            raise UserError(
                f'param_scheduler: {schedule[key]} steps take {stretched} iterations with accumulated '
                f'gradients, but the run has {total}: raise train_cfg.max_iters'
            )
        said += [f'{schedule[key]} steps of warm-up in {stretched} iterations'] * (key == 'end')
        schedule[key] = stretched
    if schedule.get('T_max') == length and length:
        schedule['T_max'] = schedule['end'] - (schedule.get('begin') or 0)
    if schedule.get('milestones') and total is None:  # in a run of epochs
        schedule['milestones'] = [round(milestone * factor) for milestone in schedule['milestones']]
    return said


def _rates_of(config: Config) -> Iterator[ConfigDict]:
    """Yield the schedules of the learning rate."""
    schedulers = config.get('param_scheduler')
    if isinstance(schedulers, dict) and 'type' not in schedulers:  # one list for each optimizer
        schedulers = [schedule for several in schedulers.values() for schedule in as_list(several)]
    for schedule in as_list(schedulers):
        if isinstance(schedule.get('type'), str) and schedule['type'].endswith('LR'):
            yield schedule


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
    if lr is None:
        return
    if base is None:
        _check_ends(config, lr)
        return
    per_iteration = batch * processes
    per_step = per_iteration * accumulated
    if enabled and accumulated > 1:
        # mmengine compares it with the images of an iteration
        scaling['base_batch_size'] = base / accumulated
    factor = per_step / base if enabled else 1.0
    for schedule in _rates_of(config):  # mmengine scales the optimizer's rate only
        rates = {key: schedule.get(key) for key in _RATES}
        schedule.update({key: rate * factor for key, rate in rates.items() if isinstance(rate, int | float)})
    _check_ends(config, lr * factor)
    if per_step != base:
        factors = f' ({per_iteration} x {accumulated} accumulated)' if accumulated > 1 else ''
        scaled = f'{lr:g} -> {lr * per_step / base:g} (--no-auto-scale-lr keeps it)'
        outcome = scaled if enabled else 'kept'
        rank0_print(f'learning rate {lr:g} is for batch {base}; this run has {per_step}{factors}: {outcome}')
    iterations = config.train_cfg.get('max_iters')
    recipe = getattr(config, 'as_in_file', {}).get('max_iters') or iterations
    if iterations is not None and iterations * per_iteration != recipe * base:
        steps = f' ({iterations // accumulated} steps of {per_step})' if accumulated > 1 else ''
        rank0_print(
            f'{iterations} iterations of {per_iteration} images{steps} see '
            f'{iterations * per_iteration / (recipe * base):.3g} times as many images as the recipe, '
            f'{recipe} of {base}: to match it, set train_cfg.max_iters={round(recipe * base / per_iteration)}'
        )


def _check_ends(config: Config, lr: float) -> None:
    """Raise UserError if a rate would rise to its minimum; that of the backbone can be lower."""
    options = config.optim_wrapper.get('paramwise_cfg') or {}
    parts = [part.get('lr_mult', 1.0) for part in (options.get('custom_keys') or {}).values()]
    lr = lr * min(1.0, options.get('backbone_lr_mult', 1.0), *(part for part in parts if part > 0))
    for schedule in _rates_of(config):
        end = schedule.get('eta_min')
        if isinstance(end, int | float) and end > lr:
            raise UserError(
                f'param_scheduler: the learning rate {lr:g} would rise to the eta_min {end:g} of '
                f'{schedule["type"]}: lower eta_min, or give eta_min_ratio instead'
            )
