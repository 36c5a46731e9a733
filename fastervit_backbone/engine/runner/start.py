"""Find the checkpoint that a training starts from or resumes, and fit it to the data."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from ...checkpoints.class_rows import first_difference, meet_classes
from ...checkpoints.classifier import to_classifier
from ...checkpoints.io import read_checkpoint, resolve_checkpoint, unwrap_state_dict
from ...checkpoints.stem import adapt_stem
from ...models.layers.low_rank import fitted_adapters
from ...utils.errors import CheckpointError, UserError
from ..config.reading import classes_of, leaf_datasets
from ..processes import rank0_print
from .build import drop_pretrained, unwrap_model
from .resumable_runner import ResumableRunner
from .work_dir import checkpoints_of


def adapt_weights(
    runner: Runner, config: Config, weights: dict[str, torch.Tensor], names: Sequence[str] | None
) -> dict[str, torch.Tensor]:
    """Return the weights as the model has them, with rows in the order of the data's classes.

    The runner, which reads the file itself, will do the same.

    Raises:
        UserError: a run is resumed with other classes.
    """
    is_classifier = config.get('default_scope') == 'mmpretrain'
    if is_classifier:
        weights = to_classifier(weights)
    wanted, source = classes_of(next(leaf_datasets(config.train_dataloader.dataset))), str(config.load_from)
    if config.resume:
        if names and wanted and list(names) != list(wanted):
            raise UserError(
                f'{source} was trained on other classes, or in another order, than the data has '
                f'({first_difference(names, wanted)}): resume with the same data, or start from it with '
                f'--cfg-options load_from={source}'
            )
        return weights
    if not isinstance(runner, ResumableRunner):  # it reads the file as it is
        meet_classes(weights, names, wanted, source, fresh=False)
        if names and wanted and list(names) != list(wanted) and len(names) == len(wanted):
            raise UserError(
                f'{source} has the classes of the data in another order: the FlexibleRunner cannot order them'
            )
        return weights

    def adapt(tensors: dict) -> tuple[dict, str]:
        tensors, stem = to_classifier(tensors) if is_classifier else tensors, ''
        if isinstance(runner.model, nn.Module):
            expected = unwrap_model(runner.model).state_dict()
            tensors, stem = adapt_stem(fitted_adapters(tensors, expected), expected)
        tensors, said = meet_classes(tensors, names, wanted, source, fresh=True)
        return tensors, '; '.join(filter(None, (said, stem)))

    runner.adapt_weights = lambda tensors: adapt(tensors)[0]
    weights, said = adapt(weights)
    if said:
        rank0_print(said)
    return weights


def find_start(config: Config, resume: bool | str | Path) -> tuple[dict[str, torch.Tensor] | None, object]:
    """Find the checkpoint that training starts from; return its weights and its metadata.

    Sets ``config.load_from`` to a local file or None, and ``config.resume`` to whether it is resumed.
    """
    resumed = _find_resumable(config, resume) if resume else None
    if resumed is not None:
        path, content = resumed
        rank0_print(f'resuming from {path}')
        drop_pretrained(config.model)  # the checkpoint has all weights
        _restore_seed(config, content['meta'].get('seed'))
        _report_finished(config, path, content['meta'])
    elif config.get('load_from'):
        path = resolve_checkpoint(config.load_from)
        content = read_checkpoint(path)
        if any(key.startswith('backbone.') for key in unwrap_state_dict(content)):
            drop_pretrained(config.model)  # the file has the backbone's weights: download none
    else:
        config.update(resume=False, load_from=None)
        return None, None
    config.update(resume=resumed is not None, load_from=str(path))
    return unwrap_state_dict(content), content.get('meta')


def _find_resumable(config: Config, resume: bool | str | Path) -> tuple[Path, dict] | None:
    """Return the checkpoint to resume from and its content; None if the work dir has none."""
    found = checkpoints_of(config.work_dir) if resume is True else [resolve_checkpoint(str(resume))]
    if not found:
        rank0_print(f'nothing to resume in {config.work_dir}: starting from scratch')
        return None
    path, content = _read_first(found)
    if not {'optimizer', 'meta'} <= content.keys():
        raise UserError(
            f'{path} has only weights and no state to resume: '
            f'start from it with --cfg-options load_from={path}'
        )
    return path, content


def _read_first(paths: Sequence[Path]) -> tuple[Path, dict]:
    """Read the first readable checkpoint; the unreadable ones before it are reported."""
    for path, previous in zip_longest(paths, paths[1:]):
        try:
            return path, read_checkpoint(path)
        except CheckpointError as error:
            if previous is None:
                raise
            rank0_print(f'{error}: resuming from the previous checkpoint {previous}')
    raise AssertionError('paths is empty')


def _restore_seed(config: Config, seed: int | None) -> None:
    """Use the seed that the resumed run started with."""
    current = (config.get('randomness') or {}).get('seed')
    if seed is not None and current != seed:
        if current is not None:
            rank0_print(f'seed {current} -> {seed}, the seed that the run started with')
        config.randomness = dict(config.get('randomness') or {}, seed=seed)


def _report_finished(config: Config, path: Path, meta: Mapping[str, int]) -> None:
    """Report that the resumed run has finished already."""
    for unit, limit in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        done, total = meta.get(unit, 0), config.train_cfg.get(limit)
        if total is not None and done >= total:
            rank0_print(
                f'{path} is at {unit} {done}, and train_cfg.{limit} is {total}: nothing left to train'
            )
