"""From a config and a checkpoint to a model ready to predict, and what its classes are called."""

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..checkpoints.io import read_checkpoint, unwrap_state_dict
from ..checkpoints.published import check_fit
from ..engine.config.adapt import check_channels, fit_heads, fit_to_machine
from ..engine.config.load import load_config
from ..engine.config.validate import classes_of, is_semantic, leaf_datasets
from ..engine.runner.build import drop_pretrained
from ..engine.runner.work_dir import find_checkpoint
from ..structures.prediction import Categories
from ..utils.errors import UserError


def load_model(
    config_path: str | Path, checkpoint: str | Path, options: Mapping[str, object] | None, threshold: float
) -> tuple[nn.Module, Config, Categories]:
    """Build, fill and set to evaluation; no data set need be there.

    Args:
        config_path: the config that the checkpoint was trained with.
        checkpoint: a file, a URL, or a work dir: its last checkpoint.
        options: ``--cfg-options``.
        threshold: objects below it will not be asked for, so that a detector need not make their masks.

    Raises:
        UserError: bad config, a checkpoint that does not fit it, classes that nothing names.
    """
    config = load_config(config_path, options)
    init_default_scope(config.get('default_scope', 'mmengine'))
    check_channels(config)
    content = read_checkpoint(find_checkpoint(checkpoint))
    categories = _categories(config, (content.get('meta') or {}).get('dataset_meta') or {})
    fit_heads(config, len(categories.names))
    fit_to_machine(config, 'none')
    drop_pretrained(config.model)
    asked = copy.deepcopy(config.model)
    for part in (asked.get('test_cfg') or {}, (asked.get('test_cfg') or {}).get('rcnn') or {}):
        if isinstance(part.get('score_thr'), float):
            part.score_thr = max(part.score_thr, threshold)
    model = MODELS.build(asked)
    weights = unwrap_state_dict(content)
    check_fit(model, weights, str(checkpoint))
    model.load_state_dict(weights, strict=False)  # checked: at most BatchNorm's counters are missing
    return model.eval(), config, categories


def default_device() -> torch.device:
    """A CUDA device where there is one."""
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def test_dataset(config: Config) -> Mapping:
    """The config's (first) test data set.

    Raises:
        UserError: it has none, hence no test pipeline.
    """
    loader = config.get('test_dataloader')
    if not loader:
        raise UserError(
            f'{config.filename} has no test_dataloader, whose pipeline says how images are prepared'
        )
    return next(leaf_datasets(loader.dataset))


def _categories(config: Config, kept: Mapping) -> Categories:
    """As the checkpoint keeps them; else as the config's test data has them."""
    dataset = test_dataset(config)
    names = kept.get('classes') or classes_of(dataset)
    if not names:
        raise UserError(
            'neither the checkpoint nor the config names the classes: set test_dataloader.dataset.metainfo.classes'
        )
    names = tuple(map(str, names))
    if is_semantic(dataset):
        first = int(
            bool(kept.get('reduce_zero_label', dataset.get('reduce_zero_label', 'ADE' in dataset['type'])))
        )
        return Categories(names, tuple(range(first, first + len(names))))
    if kept.get('category_ids'):
        return Categories(names, tuple(map(int, kept['category_ids'])))
    annotations = read_annotations(config)
    by_name = {c['name']: c['id'] for c in annotations['categories']} if annotations else {}
    if set(names) <= set(by_name):
        return Categories(names, tuple(by_name[name] for name in names))
    return Categories(names, tuple(range(1, len(names) + 1)), own=False)


def read_annotations(config: Config) -> dict | None:
    """The COCO json of the config's test data set, or None where it has none or the file is not here."""
    dataset = test_dataset(config)
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file') or '')
    if path.suffix != '.json' or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
        return content if {'images', 'categories'} <= set(content) else None
    except ValueError as error:
        raise UserError(f'{path} is broken JSON ({error}): fetch or write it again') from error


def test_image_ids(config: Config) -> dict[str, int]:
    """Real path -> image id of the test data set's images, so that predictions on them can be scored; empty where they are not here."""
    annotations, dataset = read_annotations(config), test_dataset(config)
    folder = Path(dataset.get('data_root') or '') / (dataset.get('data_prefix') or {}).get('img', '')
    return {
        os.path.realpath(folder / image['file_name']): image['id']
        for image in (annotations or {}).get('images', ())
    }
