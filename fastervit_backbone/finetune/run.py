"""Fine-tuning behind tools/finetune.py."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ..apis.evaluate import FIGURES
from ..apis.train import train as train_config
from ..checkpoints.io import fetch, read_checkpoint, unwrap_state_dict
from ..engine.processes import rank0_print
from ..engine.runner.work_dir import find_checkpoint
from ..utils.errors import CheckpointError, UserError
from ..utils.files import check_folder_writable, replacing
from .flat_config import build_config, config_text
from .own_data import read_own_data
from .plan import MODELS, PRESETS, Plan, describe, make_plan

_PATHS = ('train', 'val', 'images')


@dataclass(frozen=True)
class Finetuned:
    """What came out.

    Attributes:
        config: the flat config.
        plan: what was decided; None where a run was gone on with.
        best: checkpoint with the best figure; None where nothing was trained (``dry_run``, ``config_only``).
        metric: its name: 'mask AP', 'box AP' or 'mIoU'.
        value: of the best checkpoint on the validation data, 0..1.
    """

    config: Path
    plan: Plan | None
    best: Path | None = None
    metric: str = ''
    value: float = 0.0


def finetune(
    train: str | Path,
    val: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    model: str | None = None,
    arch: str | None = None,
    preset: str | None = None,
    classes: Sequence[str] | None = None,
    ignore: int | None = None,
    work_dir: str | Path | None = None,
    start: str | Path | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    amp: bool = True,
    resume: bool = False,
    config_only: bool = False,
    dry_run: bool = False,
) -> Finetuned:
    """Train a detector or segmenter on data of one's own.

    Args:
        train: COCO json, or folder of label maps.
        val: likewise.
        images: folder of the images, or two: of train and of val.
        model: 'cascade' (the default), 'mask-rcnn', 'dino' (COCO); 'upernet', 'fpn' (label maps).
        arch: of FasterViT: '0' (the default) .. '4', or 'nano', which a CPU trains in minutes.
        preset: 'quick', 'standard' (the default) or 'long'.
        classes: of label maps: names of the values 0, 1, ...
        ignore: of label maps: a value that means "no class", beside 255.
        work_dir: default ``work_dirs/finetune/MODEL_ARCH``.
        start: 'published' weights of the backbone (the default), 'nothing', or a file or work dir: of a backbone, or of a whole model,
            whose heads may have other classes, and start fresh then.
        size: (height, width), instead of what is chosen.
        batch: images of a step, likewise.
        epochs: likewise.
        lr: likewise.
        seed: of everything random (0).
        amp: mixed precision where there is a CUDA device.
        resume: go on with the run in ``work_dir``, with the config that is there; what is given beside must be what it was made with.
        config_only: write the config and train nothing.
        dry_run: print what would be done; write and train nothing.

    Raises:
        UserError: bad input; data with errors.
    """
    folders = [images] if isinstance(images, str | Path) else list(images)
    asked = dict(
        train=train,
        val=val,
        images=folders,
        model=model,
        arch=arch,
        preset=preset,
        classes=classes,
        ignore=ignore,
        start=start,
    )
    asked = _plain(asked | dict(size=size, batch=batch, epochs=epochs, lr=lr, seed=seed, amp=amp))
    model, arch, preset, start = model or 'cascade', arch or '0', preset or 'standard', start or 'published'
    for option, value, known in (('model', model, MODELS), ('preset', preset, PRESETS)):
        if value not in known:
            raise UserError(f'--{option} {value}: one of {", ".join(known)}')
    work_dir = Path(work_dir or Path('work_dirs') / 'finetune' / f'{model}_{arch}')
    check_folder_writable('--work-dir', work_dir)
    path = work_dir / 'finetune.py'
    if resume and path.is_file():
        if dry_run or config_only:
            raise UserError(
                f'--resume goes on with {path}, which is there: leave out --dry-run and --config-only'
            )
        _check_same(path.with_suffix('.json'), asked)
        rank0_print(f'going on with {path}, as it is')
        return _train(path, None, folders[-1], resume=True)
    if path.exists():
        raise UserError(
            f'{work_dir} has a run already: --resume goes on with it, another --work-dir starts one, tools/train.py takes {path}'
        )
    if resume:
        rank0_print(f'nothing to resume in {work_dir}: starting from the beginning')
    data = read_own_data(train, val, folders, classes, ignore)
    weights = None
    if start not in ('published', 'nothing'):
        weights = find_checkpoint(start)
        start = (
            'model'
            if any(k.startswith('backbone.') for k in unwrap_state_dict(read_checkpoint(weights)))
            else 'backbone'
        )
    given = dict(size=size, batch=batch, epochs=epochs, start=str(start), weights=weights, amp=amp)
    plan = make_plan(data, model=model, arch=arch, preset=preset, **given)
    for finding in data.findings:
        rank0_print(finding.line())
    words = describe(plan, data)
    rank0_print(
        '\n'.join(
            [f'{name:<12}{text}' for name, text in words.items()]
            + [f'  because   {reason}' for reason in plan.reasons]
        )
    )
    if dry_run:
        rank0_print(f'nothing was trained; without --dry-run the config goes to {path}')
        return Finetuned(path, plan)
    config = build_config(data, plan, seed=seed or 0, lr=lr)
    if plan.start == 'published':
        _fetch(config)
    with replacing(path) as temporary:
        temporary.write_text(config_text(config, words, shlex.join(['python', *sys.argv])))
    with replacing(path.with_suffix('.json')) as temporary:
        temporary.write_text(json.dumps(asked, indent=2) + '\n')
    rank0_print(f'config: {path}, learning rate {config.optim_wrapper.optimizer.lr:.3g}')
    if config_only:
        rank0_print(f'train it: python {_tool("train")} {path} --work-dir {work_dir}')
        return Finetuned(path, plan)
    return _train(path, plan, folders[-1], resume=False)


def _train(path: Path, plan: Plan | None, images: str | Path, *, resume: bool) -> Finetuned:
    work_dir = path.parent
    train_config(path, work_dir=work_dir, resume=resume)
    found = sorted(work_dir.glob('best_*.pth'), key=lambda p: p.stat().st_mtime)
    if not found:
        raise UserError(
            f'{work_dir} has no best checkpoint: nothing was found in any evaluation, train longer (--preset, --epochs)'
        )
    best = work_dir / 'best.pth'
    with replacing(best) as temporary:
        shutil.copyfile(found[-1], temporary)
    name, whole = FIGURES[Config.fromfile(path).default_hooks.checkpoint.save_best]
    value = float(read_checkpoint(best)['message_hub']['runtime_info']['best_score']) / whole
    rank0_print(f'best: {name} {value:.3f}, {best} (a copy of {found[-1].name})')
    rank0_print(f'predict: python {_tool("predict")} {path} {best} {images} --out {work_dir / "predictions"}')
    return Finetuned(path, plan, best, name, value)


def _plain(asked: dict[str, object]) -> dict[str, object]:
    """What was asked for, as json has it; paths absolute."""
    paths = {
        k: [os.path.abspath(p) for p in v] if k == 'images' else os.path.abspath(v)
        for k, v in asked.items()
        if k in _PATHS
    }
    start = asked['start']
    return json.loads(
        json.dumps(
            asked | paths | dict(start=os.path.abspath(start) if start and Path(start).exists() else start),
            default=str,
        )
    )


def _check_same(path: Path, asked: dict[str, object]) -> None:
    """Raise UserError where something is given that the run was not made with; what is not given counts for nothing."""
    made = json.loads(path.read_text()) if path.is_file() else {}
    for name, value in asked.items():
        if value is not None and name in made and value != made[name] and not (name == 'amp' and value):
            option = '--no-amp' if name == 'amp' else f'--{name} {value}'
            raise UserError(
                f'{option}: the run in {path.parent} was made with {made[name]}: leave it out, or change {path.with_suffix(".py")} itself'
            )


def _tool(name: str) -> Path:
    """How to call another tool from where this one was called."""
    called = Path(sys.argv[0])
    return called.with_name(f'{name}.py') if called.name == 'finetune.py' else Path('tools') / f'{name}.py'


def _fetch(config: Config) -> None:
    """The published weights, before anything is written."""
    try:
        fetch(config.model.backbone.init_cfg.checkpoint)
    except CheckpointError as error:
        raise UserError(f'{str(error).split(";")[0]}; or --start nothing, or --start FILE') from error
