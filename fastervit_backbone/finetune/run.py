"""Fine-tuning behind fastervit finetune."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoints.classifier import number_of_classes, to_classifier
from ..checkpoints.io import read_checkpoint, resolve_checkpoint, unwrap_state_dict, write_plain_checkpoint
from ..datasets.dataset import named_splits, open_dataset
from ..engine.processes import (
    from_first_process,
    join_processes,
    launcher_of_environment,
    rank0_print,
    world_size,
)
from ..engine.runner.work_dir import find_checkpoint
from ..evaluation.main_metrics import MAIN_METRICS
from ..models.layers.low_rank import merged_tensors
from ..options import FinetuneOptions, flag_of, resolve
from ..options.field import Place
from ..recipes import RECIPES, default_model
from ..train import train as train_config
from ..utils.command import command_line
from ..utils.errors import DownloadError, UserError
from ..utils.files import check_folder_writable, replacing
from .augmentations import AUGMENTATIONS
from .augmented import write_augmented
from .describe import describe
from .flat_config import LOGGERS, build_config, check_loggers, config_text
from .plan import PRESETS, Plan, make_plan
from .read_data import read_training_data
from .training_data import USED


@dataclass(frozen=True)
class FinetuneResult:
    """Result of :func:`finetune`.

    Attributes:
        config: the flat config.
        plan: None for a resumed run.
        best: checkpoint with the best metric; None without a training (``dry_run``, ``config_only``).
        metric: its name: 'mask AP', 'box AP' or 'mIoU'.
        value: of the best checkpoint on the validation data, 0..1.
    """

    config: Path
    plan: Plan | None
    best: Path | None = None
    metric: str = ''
    value: float = 0.0


def finetune(data: Place | FinetuneOptions | None = None, /, **options: Any) -> FinetuneResult:
    """Train a detector, segmenter or classifier on your own data; in several processes under torchrun.

    Args:
        data: a data set that is recognized, see :func:`~fastervit_backbone.datasets.dataset.open_dataset`, or
            all options; None: ``train`` and ``val`` are among them.
        options: of :class:`~fastervit_backbone.options.FinetuneOptions`: ``model``, ``arch``, ``epochs``, ...

    Raises:
        TypeError: an option that does not exist.
        UserError: bad input; data with errors.
    """
    o = resolve(FinetuneOptions, data, options)
    launcher = launcher_of_environment()
    join_processes(Config(), launcher)
    _check_options(o)
    work_dir = Path(o.work_dir or Path('work_dirs') / 'finetune' / _name_of_run(o))
    check_folder_writable('--work-dir', work_dir)
    check_loggers(o.log)
    path = work_dir / 'finetune.py'
    if o.resume and path.is_file():
        if o.dry_run or o.config_only:
            raise UserError(f'--resume continues {path}, which exists: leave out --dry-run and --config-only')
        _check_same(path.with_suffix('.json'), _to_json(o))
        rank0_print(f'resuming with {path} as it is')
        return _train(path, None, _validation_images(path), launcher, resume=True)
    plan, shown = from_first_process(lambda: _prepare(o, path, launcher))
    if o.dry_run:
        rank0_print(f'dry run, nothing was trained; without --dry-run the config is written to {path}')
    elif o.config_only:
        rank0_print(f'train it: fastervit train {path} --work-dir {work_dir}')
    else:
        return _train(path, plan, shown, launcher, resume=False)
    return FinetuneResult(config=path, plan=plan)


def _folders(o: FinetuneOptions) -> list[Place]:
    """Return the image folders, of which one needs no list."""
    return [o.images] if isinstance(o.images, str | Path) else list(o.images)


def _model(o: FinetuneOptions) -> str | None:
    """Return the model; None where the data, once it is recognized, decides."""
    return o.model or (None if o.data is not None else 'cascade' if _folders(o) else 'classifier')


def _check_options(o: FinetuneOptions) -> None:
    """Raise UserError unless there are data, and for names that do not exist."""
    if (o.data is None) == (o.train is None and o.val is None):
        raise UserError('name one data set, or its splits with --train and --val')
    if o.data is None and (o.train is None or o.val is None):
        raise UserError(f'--{"train" if o.train is None else "val"} is missing: both splits are needed')
    choices: list[tuple[str, str | None, Iterable[str | None]]] = [
        ('model', o.model, (None, *RECIPES)),
        ('preset', o.preset, (None, *PRESETS)),
        ('tune', o.tune, (None, 'heads', 'adapters', 'all')),
        ('augment', o.augment, (None, *AUGMENTATIONS)),
        *(('log', name, LOGGERS) for name in o.log),
    ]
    for option, value, known in choices:
        if value not in known:
            raise UserError(f'--{option} {value}: choose one of {", ".join(filter(None, known))}')


def _name_of_run(o: FinetuneOptions) -> str:
    model, arch = _model(o), o.arch or '0'
    return f'{model}_{arch}' if o.data is None else f'{_name_of(Path(o.data))}_{model or "default"}_{arch}'


def _prepare(o: FinetuneOptions, path: Path, launcher: str) -> tuple[Plan, Path]:
    """Read the data, plan, print the plan and write the config; return the plan and a folder of images."""
    _check_new(path, o.resume)
    if o.data is None:
        assert o.train is not None and o.val is not None
        dataset = named_splits(dict(train=o.train, val=o.val), _folders(o))
    else:
        dataset = open_dataset(o.data, _folders(o), USED)
    own = read_training_data(
        dataset,
        path.parent / 'data',
        classes=o.classes,
        ignore=o.ignore,
        masks=o.masks,
        val_fraction=o.val_fraction,
        seed=o.seed or 0,
        write=not o.dry_run,
        channels=o.channels,
        rgb=o.rgb,
    )
    rank0_print('\n'.join(own.lines))
    start, weights = _find_weights(o.start or 'published', own.kind)
    plan = make_plan(
        own,
        model=_model(o) or default_model(own.kind),
        arch=o.arch or '0',
        preset=o.preset or 'standard',
        augment=o.augment or 'light',
        size=o.size,
        batch=o.batch,
        epochs=o.epochs,
        amp=o.amp,
        flip=o.flip,
        balanced=o.balance,
        accumulate=o.accumulate,
        start=start,
        weights=weights,
        tune=o.tune,
        processes=world_size(launcher),
    )
    description = describe(plan, own)
    lines = [finding.line() for finding in own.findings]
    lines += [f'{name:<12}{text}' for name, text in description.items()]
    rank0_print('\n'.join([*lines, *(f'  because   {reason}' for reason in plan.reasons)]))
    if not o.dry_run:
        config = build_config(own, plan, seed=o.seed or 0, lr=o.lr, log=o.log)
        _write(config, description, _to_json(o), path)
    return plan, own.image_folders[-1]


def _name_of(data: Path) -> str:
    """Name a data set: its folder, also for data.yaml; a json's own name."""
    path = data.resolve()
    return path.parent.name if path.suffix in ('.yaml', '.yml') else path.stem


def _write(config: Config, description: Mapping[str, str], options: Mapping[str, object], path: Path) -> None:
    """Write the config, the options and the sheet of augmented images; weights are downloaded before."""
    start = config.load_from or (config.model.backbone.get('init_cfg') or {}).get('checkpoint')
    if start is not None:
        _download_weights(start)
    sheet = path.with_name('augmented.jpg')
    write_augmented(config, sheet)
    with replacing(path) as temporary:
        temporary.write_text(config_text(config, description, command_line()))
    with replacing(path.with_suffix('.json')) as temporary:
        temporary.write_text(json.dumps(options, indent=2) + '\n')
    rank0_print(f'config: {path}, learning rate {config.optim_wrapper.optimizer.lr:.3g}')
    rank0_print(f'augmented training images: {sheet}')


def _check_new(path: Path, resume: bool) -> None:
    """Raise UserError if the config of another run is there."""
    if path.exists():
        raise UserError(
            f'{path.parent} already contains a run: use --resume to continue it, another --work-dir to start '
            f'a new one, or fastervit train with {path}'
        )
    if resume:
        rank0_print(f'nothing to resume in {path.parent}: starting from scratch')


def _validation_images(path: Path) -> str:
    """Return the folder of the validation images of a config that finetune wrote."""
    dataset = Config.fromfile(path).val_dataloader.dataset
    prefix = dataset.get('data_prefix') or {}
    return prefix.get('img') or prefix.get('img_path') or dataset.data_root


def _find_weights(start: str | Path, kind: str) -> tuple[str, Path | None]:
    """Resolve ``start`` to the kind of start that a plan has, and the checkpoint for it."""
    if start in ('published', 'nothing'):
        return start, None
    weights = find_checkpoint(start)
    tensors = to_classifier(unwrap_state_dict(read_checkpoint(weights)))
    is_whole = any(name.startswith('backbone.') for name in tensors)
    is_classifier = number_of_classes(tensors) is not None
    return 'model' if is_whole and is_classifier == (kind == 'folders') else 'backbone', weights


def _train(
    path: Path, plan: Plan | None, images: str | Path, launcher: str, *, resume: bool
) -> FinetuneResult:
    """Train the config at ``path`` and copy its best checkpoint; ``images`` for the command that predicts."""
    train_config(path, work_dir=path.parent, resume=resume, launcher=launcher)
    best, metric, value = from_first_process(lambda: _copy_best(path))
    work_dir = path.parent
    rank0_print(f'predict: fastervit predict {path} {best} {images} --out {work_dir / "predictions"}')
    return FinetuneResult(config=path, plan=plan, best=best, metric=metric, value=value)


def _copy_best(path: Path) -> tuple[Path, str, float]:
    """Copy the best weights of a run to best.pth; returns it and its metric."""
    work_dir = path.parent
    checkpoints = sorted(work_dir.glob('best_*.pth'), key=lambda p: p.stat().st_mtime)
    if not checkpoints:
        raise UserError(f'{work_dir} has no best checkpoint: nothing was detected, train longer (--epochs)')
    best = work_dir / 'best.pth'
    content = read_checkpoint(checkpoints[-1])
    content['state_dict'] = merged_tensors(content['state_dict'])
    write_plain_checkpoint(content, best)
    metric, scale = MAIN_METRICS[Config.fromfile(path).default_hooks.checkpoint.save_best]
    value = float(content['message_hub']['runtime_info']['best_score']) / scale
    rank0_print(f'best: {metric} {value:.3f}, {best} (the weights of {checkpoints[-1].name})')
    return best, metric, value


def _to_json(o: FinetuneOptions) -> dict[str, object]:
    """Convert the options of a run to what a json of them holds, with absolute paths."""
    values = asdict(o)
    for name in ('work_dir', 'resume', 'config_only', 'dry_run', *(['val_fraction'] * (o.data is None))):
        del values[name]
    given = [name for name in ('train', 'val', 'data') if values[name] is not None]
    values |= {name: os.path.abspath(values[name]) for name in given}
    values['images'] = [os.path.abspath(folder) for folder in _folders(o)]
    if o.start and Path(o.start).exists():
        values['start'] = os.path.abspath(o.start)
    return json.loads(json.dumps(values, default=str))


def _check_same(path: Path, options: Mapping[str, object]) -> None:
    """Compare options with those of the run that wrote ``path``; options that are not given may differ.

    Raises:
        UserError: an option differs.
    """
    previous = json.loads(path.read_text()) if path.is_file() else {}
    items = {item.name: item for item in fields(FinetuneOptions)}
    for name, value in options.items():
        item = items[name]
        is_default = value == (list(item.default) if item.default == () else item.default)
        if is_default or value == previous.get(name, value):
            continue
        option = flag_of(item) + ('' if item.default is True else f' {value}')
        raise UserError(
            f'{option}: the run in {path.parent} was started with {previous[name]}; leave the option out, '
            f'or edit {path.with_suffix(".py")}'
        )


def _download_weights(url: str) -> None:
    """Download published weights before anything is written; those of this package are there."""
    try:
        resolve_checkpoint(url)
    except DownloadError as error:
        otherwise = 'use --start nothing or --start FILE'
        raise DownloadError(error.url, error.reason, error.path, otherwise) from error
