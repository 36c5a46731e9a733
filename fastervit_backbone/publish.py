"""Publish a run: a folder with weights, config and card, without traces of the machine it was made on."""

import copy
import json
import shlex
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from .checkpoints.data_meta import data_meta
from .checkpoints.declared import declare
from .checkpoints.io import NANO, read_checkpoint, write_state_dict
from .checkpoints.model_folder import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from .engine.config.data_only import parse_data_config
from .engine.config.load import load_config
from .engine.config.reading import as_list, leaf_datasets
from .engine.config.write import as_python
from .engine.runner.build import drop_pretrained
from .evaluation.curves import read_log
from .inference.inputs import pixels_of_config
from .inference.load_model import load_model, task_of
from .models.fastervit import FasterViT
from .models.layers.low_rank import merge_adapters
from .utils.commit import current_commit
from .utils.errors import UserError, cause_of
from .utils.files import check_folder_writable, replacing
from .utils.html import render
from .utils.trust import pickles_are_trusted

_TAGS = dict(detection='object-detection', segmentation='image-segmentation')
#: Parts of the names of metrics in a log.
_METRICS = ('mAP', 'mIoU', 'mAcc', 'aAcc', 'accuracy')
#: Keys of a data set that are places on this machine -> what stands for them.
_PLACES = dict(data_root='', ann_file='annotations.json', data_prefix=None)


def publish(run: str | Path, out: str | Path, *, checkpoint: str | Path | None = None) -> Path:
    """Write the best model of a run as a folder that others can use.

    It holds ``model.safetensors`` (the weights, with classes and ids), ``config.py`` (model, test pipeline
    and metric, without bases) and ``README.md`` (a card: data, classes, figures, command, license).

    Args:
        run: work dir of fastervit finetune or fastervit train.
        out: folder to create.
        checkpoint: of the run; None: its best one, else the last.

    Returns:
        the folder.

    Raises:
        UserError: no config or checkpoint in the run, ``out`` exists, or others could not load the model
            without running code of yours.
    """
    run, out = Path(run), Path(out)
    config_path = _config_of(run)
    path = Path(checkpoint) if checkpoint is not None else _best_of(run)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f'{out} exists: name a new folder, or remove it')
    check_folder_writable('OUT', out)
    config, content = load_config(config_path), read_checkpoint(path)
    model, _, categories = load_model(config_path, path, None, 0.0)
    merge_adapters(model)
    meta = data_meta(content, path)
    meta['classes'] = list(categories.names)
    if categories.own and task_of(config) == 'detection':
        meta['category_ids'] = list(categories.ids)
    license_id, license_text = _license(config)
    text = f'# Written by fastervit publish. {license_text}\n{as_python(_flat_config(config, meta))}'
    if not pickles_are_trusted():
        parse_data_config(text, config_path)  # what others could not load is not published
    figures = _figures(run, content, 'max_epochs' in (config.get('train_cfg') or {}))
    parameters = sum(p.numel() for p in model.parameters())
    card = _card(config, config_path, meta, figures, license_id, license_text, parameters)
    backbone = model.backbone
    is_ours = type(backbone) is FasterViT  # a subclass is another network
    declaration = declare(backbone.spec, backbone.in_chans) if is_ours else {}
    write_state_dict(
        model.state_dict(),
        out / WEIGHTS_NAME,
        declaration | dict(meta=json.dumps(dict(dataset_meta=meta)), license=license_text),
    )
    _write(out / CONFIG_NAME, text)
    _write(out / CARD_NAME, card)
    return out


def upload(folder: str | Path, repo_id: str) -> str:
    """Upload a published folder to the Hugging Face Hub; returns its address.

    Raises:
        UserError: not possible, with the reason.
    """
    try:
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=str(folder))
    except Exception as error:  # the Hub's library raises errors of its HTTP client
        raise UserError(
            f'--upload {repo_id}: {cause_of(error)[:200]}: {folder} is complete; check the id, the '
            'network and the login (hf auth login)'
        ) from error
    return f'hf://{repo_id}'


def _config_of(run: Path) -> Path:
    if not run.is_dir():
        raise UserError(f'{run}: no such folder: name the work dir of a run')
    found = [run / 'finetune.py'] if (run / 'finetune.py').is_file() else sorted(run.glob('*.py'))
    if len(found) != 1:
        listed = ', '.join(path.name for path in found) or 'none'
        raise UserError(f'{run}: expected one config in it, found {listed}: is it the work dir of a run?')
    return found[0]


def _best_of(run: Path) -> Path:
    best = [run / 'best.pth'] if (run / 'best.pth').is_file() else list(run.glob('best_*.pth'))
    best = best or list(run.glob('epoch_*.pth')) + list(run.glob('iter_*.pth'))
    if not best:
        raise UserError(f'{run} has no checkpoint: train first, or name one with --checkpoint')
    return max(best, key=lambda path: path.stat().st_mtime)


def _flat_config(config: Config, meta: Mapping) -> Config:
    """Keep what prediction and evaluation need, without paths and downloads."""
    config = copy.deepcopy(config)
    kept = ConfigDict({k: config[k] for k in ('default_scope', 'custom_imports', 'model') if k in config})
    drop_pretrained(kept.model)
    if kept.model.backbone.type == 'FasterViT':
        kept.model.backbone.pop('adapters', None)  # they are merged
    kept.test_dataloader = config.test_dataloader
    dataset: Any
    for dataset in leaf_datasets(kept.test_dataloader.dataset):
        for key, value in _PLACES.items():
            if key in dataset:
                is_dict = isinstance(dataset[key], Mapping)
                dataset[key] = {k: '' for k in dataset[key]} if is_dict else value or ''
        dataset.metainfo = dict(dataset.get('metainfo') or {}, classes=tuple(meta['classes']))
    kept.test_dataloader.update(num_workers=0, persistent_workers=False)
    kept.test_evaluator = config.test_evaluator
    for evaluator in as_list(kept.test_evaluator):
        for key, value in dict(ann_file=_PLACES['ann_file'], seg_prefix='').items():
            if key in evaluator:
                evaluator[key] = value
    kept.test_cfg = dict(type='TestLoop')
    return Config(kept)


def _figures(run: Path, content: Mapping, in_epochs: bool) -> dict[str, float]:
    """Return the metrics of the evaluation of the checkpoint's weights; none if they were not evaluated."""
    try:
        log = read_log(run)
    except UserError:
        return {}
    step = (content.get('meta') or {}).get('epoch' if in_epochs else 'iter')
    figures: dict[str, float] = {}
    for line in log.lines:
        if step is not None and line.get('step') == step:
            figures |= {k: v for k, v in line.items() if any(name in k for name in _METRICS) and v >= 0}
    return figures


def _license(config: Config) -> tuple[str, str]:
    """Return the Hub's identifier of the license, and a sentence."""
    start = config.get('load_from') or (config.model.backbone.get('init_cfg') or {}).get('checkpoint')
    pretrained = config.model.backbone.get('pretrained') or config.model.get('pretrained')
    if start is None and pretrained:
        start = str(pretrained)
    if start is None:
        return 'other', 'Trained from random weights: the license is that of whoever trained it.'
    if start == NANO:
        return 'apache-2.0', "Started from this package's nano weights (Apache-2.0)."
    if 'huggingface.co/ahatamiz' in start:
        return 'cc-by-nc-sa-4.0', (
            'Started from weights published by NVIDIA (CC BY-NC-SA 4.0): not for commercial use.'
        )
    return 'other', f'Started from {Path(start).name}: the license of those weights applies.'


def _card(
    config: Config,
    config_path: Path,
    meta: Mapping,
    figures: Mapping[str, float],
    license_id: str,
    license_text: str,
    parameters: int,
) -> str:
    first = config_path.read_text().splitlines()[0]
    command = f'fastervit train {config_path.name}'
    if first.startswith('# Written by: '):
        words = shlex.split(first.removeprefix('# Written by: '))
        command = shlex.join(Path(word).name if word.startswith('/') else word for word in words)
    backbone = config.model.backbone
    return render(
        'card.md.j2',
        license_id=license_id,
        license_text=license_text,
        pipeline_tag=_TAGS.get(task_of(config), 'image-classification'),
        name=f'{config.model.type} with {backbone.type} {backbone.get("arch", "")}'.strip(),
        parameters=f'{parameters / 1e6:.1f}',
        classes=meta['classes'],
        ids=meta.get('category_ids'),
        data=_data_lines(config),
        figures=figures,
        command=command,
        channels=_channels(config),
        config=CONFIG_NAME,
        weights=WEIGHTS_NAME,
        versions=f'fastervit_backbone {current_commit()}, torch {torch.__version__}, {date.today()}',
    )


def _channels(config: Config) -> str:
    """Tell what channels images have; '' for colors."""
    pixels = pixels_of_config(config)
    if pixels.channels is None:
        return ''
    kind = '' if pixels.dtype is None else f' of {pixels.dtype}'
    return f'{pixels.channels} channel{"s" * (pixels.channels != 1)}{kind}'


def _data_lines(config: Config) -> list[str]:
    lines = []
    for split in ('train', 'val'):
        loader = config.get(f'{split}_dataloader')
        for dataset in leaf_datasets(loader.dataset) if loader else ():
            prefix = dataset.get('data_prefix') or {}
            place = prefix.get('seg_map_path') if isinstance(prefix, Mapping) else prefix
            name = Path(str(dataset.get('ann_file') or place or dataset.get('data_root') or '')).name
            lines.append(f'{split}: `{name}` ({dataset["type"]})')
    return lines


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
