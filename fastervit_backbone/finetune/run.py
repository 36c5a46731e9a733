"""Fine-tuning behind fastervit finetune."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from ..recipes import RECIPES, default_model
from ..train import train as train_config
from ..utils.command import command_line
from ..utils.errors import DownloadError, UserError
from ..utils.files import check_folder_writable, replacing
from .augmented import write_augmented
from .flat_config import LOGGERS, build_config, check_loggers, config_text
from .plan import PRESETS, RESIZE_RANGES, Plan, describe, make_plan
from .read_data import read_own_data
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


def finetune(
    train: str | Path | None = None,
    val: str | Path | None = None,
    images: str | Path | Sequence[str | Path] = (),
    *,
    data: str | Path | None = None,
    val_fraction: float = 0.2,
    model: str | None = None,
    arch: str | None = None,
    preset: str | None = None,
    classes: Sequence[str] | None = None,
    ignore: int | None = None,
    masks: bool = True,
    work_dir: str | Path | None = None,
    start: str | Path | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    amp: bool = True,
    augment: str | None = None,
    flip: bool = True,
    accumulate: int = 1,
    log: Sequence[str] = (),
    resume: bool = False,
    config_only: bool = False,
    dry_run: bool = False,
) -> FinetuneResult:
    """Train a detector, segmenter or classifier on your own data; in several processes under torchrun.

    Args:
        train: COCO json, folder of label maps, or folder of one folder of images per class.
        val: likewise.
        images: folder of the images, or two: of train and of val; none for class folders.
        data: instead of ``train`` and ``val``, a data set that is recognized, see
            :func:`~fastervit_backbone.datasets.dataset.open_dataset`.
        val_fraction: of its images, where it has no validation split.
        model: 'cascade' (the default), 'mask-rcnn', 'dino', 'mask2former', 'rtmdet-ins' (COCO); 'upernet'
            (the default with ``data``), 'fpn', 'mask2former-semantic' (label maps); 'classifier' (class
            folders).
        arch: of FasterViT: '0' (the default) .. '4', or 'nano', which a CPU trains in minutes.
        preset: 'quick', 'standard' (the default) or 'long'.
        classes: only for label maps: names of the values 0, 1, ...
        ignore: only for label maps: a value that is ignored, in addition to 255.
        masks: False: learn boxes only, of objects that have masks, or of which some have.
        work_dir: default ``work_dirs/finetune/MODEL_ARCH``, with ``data`` its name before that.
        start: 'published' backbone weights (the default; of nano those of this package), 'nothing' to train
            from scratch, or a file or work dir: of a backbone, or of a whole model, whose heads start from
            scratch if its classes differ.
        size: (height, width), overrides the plan.
        batch: images per process, likewise.
        epochs: likewise.
        lr: learning rate for the images of a step, likewise.
        seed: for all randomness (0).
        amp: mixed precision where there is a CUDA device.
        augment: strength of the augmentation: 'none', 'light' (the default) or 'strong'. A sheet of augmented
            images, ``augmented.jpg`` in the work dir, shows it.
        flip: mirror images; False for text, signs and all that has a left and a right.
        accumulate: batches per optimizer step (1).
        log: further loggers: 'tensorboard', 'wandb' (offline), 'mlflow'.
        resume: continue the run in ``work_dir`` with its config; other options must match those of that run.
        config_only: write the config, do not train.
        dry_run: print the plan, write and train nothing.

    Raises:
        UserError: bad input; data with errors.
    """
    launcher = launcher_of_environment()
    join_processes(Config(), launcher)
    folders = [images] if isinstance(images, str | Path) else list(images)
    overrides = dict(size=size, batch=batch, epochs=epochs, amp=amp, flip=flip, accumulate=accumulate)
    _check_places(data, train, val)
    options = dict(train=train, val=val, data=data, images=folders, model=model, arch=arch, preset=preset)
    options |= dict(start=start, augment=augment, classes=classes, ignore=ignore, lr=lr, seed=seed)
    options |= dict(masks=masks)
    options = _to_json(options | overrides | dict(log=list(log)))
    if data is not None:
        options['val_fraction'] = val_fraction
    arch, preset, start = arch or '0', preset or 'standard', start or 'published'
    augment = augment or 'light'
    model = model or (None if data is not None else 'cascade' if folders else 'classifier')
    choices = (
        ('model', model, (None, *RECIPES)),
        ('preset', preset, PRESETS),
        ('augment', augment, RESIZE_RANGES),
    )
    for option, value, known in (*choices, *(('log', name, LOGGERS) for name in log)):
        if value not in known:
            raise UserError(f'--{option} {value}: choose one of {", ".join(filter(None, known))}')
    name = f'{model}_{arch}' if data is None else f'{_name_of(Path(data))}_{model or "default"}_{arch}'
    work_dir = Path(work_dir or Path('work_dirs') / 'finetune' / name)
    check_folder_writable('--work-dir', work_dir)
    check_loggers(log)
    path = work_dir / 'finetune.py'
    if resume and path.is_file():
        if dry_run or config_only:
            raise UserError(f'--resume continues {path}, which exists: leave out --dry-run and --config-only')
        _check_same(path.with_suffix('.json'), options)
        rank0_print(f'resuming with {path} as it is')
        return _train(path, None, ([*folders, data or val])[-1], launcher, resume=True)

    def prepare() -> tuple[Plan, Path]:
        _check_new(path, resume)
        dataset = (
            named_splits(dict(train=train, val=val), folders)
            if data is None
            else open_dataset(data, folders, USED)
        )
        own = read_own_data(
            dataset,
            work_dir / 'data',
            classes=classes,
            ignore=ignore,
            masks=masks,
            val_fraction=val_fraction,
            seed=seed or 0,
            write=not dry_run,
        )
        rank0_print('\n'.join(own.lines))
        kind, weights = _find_weights(start, own.kind)
        chosen = dict(model=model or default_model(own.kind), arch=arch, preset=preset, augment=augment)
        plan = make_plan(
            own, **chosen, start=kind, weights=weights, processes=world_size(launcher), **overrides
        )
        description = describe(plan, own)
        lines = [finding.line() for finding in own.findings]
        lines += [f'{name:<12}{text}' for name, text in description.items()]
        rank0_print('\n'.join([*lines, *(f'  because   {reason}' for reason in plan.reasons)]))
        if not dry_run:
            config = build_config(own, plan, seed=seed or 0, lr=lr, log=log)
            _write(config, description, options, path)
        return plan, own.image_folders[-1]

    plan, shown = from_first_process(prepare)
    if dry_run:
        rank0_print(f'dry run, nothing was trained; without --dry-run the config is written to {path}')
    elif config_only:
        rank0_print(f'train it: fastervit train {path} --work-dir {work_dir}')
    else:
        return _train(path, plan, shown, launcher, resume=False)
    return FinetuneResult(config=path, plan=plan)


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


def _check_places(data: object, train: object, val: object) -> None:
    """Raise UserError unless there is one data set, or a training and a validation split."""
    if (data is None) == (train is None and val is None):
        raise UserError('name one data set, or its splits with --train and --val')
    if data is None and (train is None or val is None):
        raise UserError(f'--{"train" if train is None else "val"} is missing: both splits are needed')


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
    write_plain_checkpoint(content, best)
    metric, scale = MAIN_METRICS[Config.fromfile(path).default_hooks.checkpoint.save_best]
    value = float(content['message_hub']['runtime_info']['best_score']) / scale
    rank0_print(f'best: {metric} {value:.3f}, {best} (the weights of {checkpoints[-1].name})')
    return best, metric, value


def _to_json(options: Mapping[str, object]) -> dict[str, object]:
    """Convert options to what a json of them holds, with absolute paths."""
    start = options['start']
    given = [name for name in ('train', 'val', 'data') if options[name] is not None]
    paths: dict[str, object] = {name: os.path.abspath(options[name]) for name in given}
    paths['images'] = [os.path.abspath(folder) for folder in options['images']]
    paths['start'] = os.path.abspath(start) if start and Path(start).exists() else start
    return json.loads(json.dumps({**options, **paths}, default=str))


def _check_same(path: Path, options: Mapping[str, object]) -> None:
    """Compare options with those of the run that wrote ``path``; options that are not given may differ.

    Raises:
        UserError: an option differs.
    """
    previous = json.loads(path.read_text()) if path.is_file() else {}
    not_given = dict(amp=True, flip=True, masks=True, log=[], accumulate=1, val_fraction=0.2, images=[])
    for name, value in options.items():
        if value == not_given.get(name) or value == previous.get(name, value):
            continue
        option = f'--no-{name}' if name in ('amp', 'flip', 'masks') else f'--{name.replace("_", "-")} {value}'
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
