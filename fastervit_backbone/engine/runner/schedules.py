"""The schedules of a run that is resumed with a different config."""

from collections.abc import Mapping, Sequence

from mmengine.optim import _ParamScheduler

#: Keys of a scheduler's state that, like those with a leading "_", hold its position and not the schedule.
_POSITION_KEYS = {'base_values', 'last_step', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter'}


def schedule_of(state: Mapping[str, object]) -> dict[str, object]:
    """Return the part of a scheduler's state that defines its schedule, without its position."""
    return {k: v for k, v in state.items() if k not in _POSITION_KEYS and not k.startswith('_')}


def describe_changes(before: Sequence[Mapping], now: Sequence[Mapping]) -> list[str]:
    """Describe how two lists of schedulers differ; empty if the schedules are the same.

    Args:
        before: states of a checkpoint's schedulers.
        now: states of the config's schedulers.
    """
    if len(before) != len(now):
        return [f'schedulers {len(before)} -> {len(now)}']
    changes = []
    for old, new in zip(before, now, strict=True):
        if old.keys() != new.keys():
            changes.append('a different kind of scheduler')
            continue
        changes += [f'{k} {old[k]} -> {v}' for k, v in schedule_of(new).items() if old[k] != v]
    return list(dict.fromkeys(changes))


def fast_forward(
    schedulers: Sequence[_ParamScheduler],
    in_epochs: Sequence[bool],
    *,
    iterations: int,
    epochs: int,
    within: int,
    length: int | None,
) -> None:
    """Step fresh schedulers to the position of a run, in the order in which training steps them.

    Args:
        schedulers: as built; their optimizer has the values of the first iteration.
        in_epochs: whether the config counts each scheduler in epochs, even if it is stepped by iteration.
        iterations: completed in total.
        epochs: completed.
        within: completed iterations of the current epoch.
        length: iterations of an epoch, as it is now; None if training counts only iterations.
    """
    # the length of an epoch may have changed: a schedule in epochs continues after as many of today's epochs
    epoch_iterations = iterations if length is None else epochs * length + within
    ends = [epoch_iterations if counts_epochs else iterations for counts_epochs in in_epochs]
    for scheduler in schedulers:  # mmengine's count of optimizer steps; at -1 it warns that there were none
        scheduler.optimizer._global_step = max(scheduler.optimizer._global_step, 0)
    for iteration in range(1, max([*ends, 0]) + 1):
        for scheduler, end in zip(schedulers, ends, strict=True):
            if not scheduler.by_epoch and iteration <= end:
                scheduler.step()
        if length is not None and iteration % length == 0 and iteration // length <= epochs:
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
