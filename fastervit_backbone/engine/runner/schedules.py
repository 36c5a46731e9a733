"""The schedules of a run that goes on with another config than it began with."""

from collections.abc import Mapping, Sequence

from mmengine.optim import _ParamScheduler

#: What a scheduler's state says of the place that it is at, beside what begins with "_"; the rest of it is the schedule.
_PLACE = {'base_values', 'last_step', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter'}


def schedule_of(state: Mapping[str, object]) -> dict[str, object]:
    """What a scheduler's state says of the schedule, without the place that it is at."""
    return {k: v for k, v in state.items() if k not in _PLACE and not k.startswith('_')}


def describe_changes(before: Sequence[Mapping], now: Sequence[Mapping]) -> list[str]:
    """What differs between two lists of schedulers, in words; empty where the schedules are the same.

    Args:
        before: states of a checkpoint's schedulers.
        now: states of the config's.
    """
    if len(before) != len(now):
        return [f'schedulers {len(before)} -> {len(now)}']
    changes = []
    for old, new in zip(before, now, strict=True):
        if old.keys() != new.keys():
            changes.append('another kind of scheduler')
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
    """Step fresh schedulers to where a run is, in the order in which training steps them.

    Args:
        schedulers: as built; their optimizer has the values of the first iteration.
        in_epochs: of each, whether the config counts it in epochs, although it may be stepped by iteration.
        iterations: that are done in all.
        epochs: that are done.
        within: iterations of the epoch that is not.
        length: iterations of an epoch, as it is now; None where training counts iterations alone.
    """
    # epochs may have had another length before: what is counted in epochs goes on from as many of them
    counted = 0 if length is None else epochs * length + within
    ends = [counted if epochwise and length is not None else iterations for epochwise in in_epochs]
    for scheduler in schedulers:
        scheduler.optimizer._global_step = max(
            scheduler.optimizer._global_step, 0
        )  # mmengine's count of steps, or it warns of none
    for iteration in range(1, max([*ends, 0]) + 1):
        for scheduler, end in zip(schedulers, ends, strict=True):
            if not scheduler.by_epoch and iteration <= end:
                scheduler.step()
        if length is not None and iteration % length == 0 and iteration // length <= epochs:
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
