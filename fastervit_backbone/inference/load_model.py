"""Load a model for prediction from a config and a checkpoint, with the names of its classes."""

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from ..checkpoints.classifier import to_classifier
from ..checkpoints.data_meta import data_meta
from ..checkpoints.io import read_checkpoint, unwrap_state_dict
from ..checkpoints.model_folder import is_published_config
from ..checkpoints.published import check_fit
from ..checkpoints.safe_loading import safe_loading
from ..engine.config.adaptations import fit_to_machine
from ..engine.config.channels import check_channels
from ..engine.config.classes import fit_heads, stuff_of
from ..engine.config.load import load_config
from ..engine.config.lookup import find_class
from ..engine.config.reading import classes_of, is_image_folder, is_panoptic, is_semantic, leaf_datasets
from ..engine.runner.build import drop_pretrained
from ..engine.runner.work_dir import find_checkpoint
from ..structures.prediction import Categories
from ..utils.errors import UserError
from ..utils.files import read_json


def load_model(
    config_path: str | Path, checkpoint: str | Path, options: Mapping[str, object] | None, threshold: float
) -> tuple[BaseModel, Config, Categories]:
    """Build a model, load its weights and set it to eval mode; the data set need not exist.

    Args:
        config_path: config that the checkpoint was trained with.
        checkpoint: file, URL, or a work dir (its last checkpoint).
        options: ``--cfg-options``.
        threshold: lowest score that will be asked for, so that a detector makes no masks of objects below it.

    Raises:
        UserError: bad config, a checkpoint that does not fit it, or classes that are named nowhere.
    """
    config = load_config(config_path, options)
    init_default_scope(config.get('default_scope', 'mmengine'))
    check_channels(config)
    path = find_checkpoint(checkpoint)
    content = read_checkpoint(path)
    meta = data_meta(content, path)
    categories = _categories(config, meta)
    fit_heads(config, len(categories.names), _num_stuff(config, meta))
    categories = replace(categories, num_things=_num_things(config))
    fit_to_machine(config, 'none')
    drop_pretrained(config.model)
    model_config = copy.deepcopy(config.model)
    test_cfg = model_config.get('test_cfg') or {}
    for part in (test_cfg, test_cfg.get('rcnn') or {}):
        if isinstance(part.get('score_thr'), float):
            part['score_thr'] = max(part['score_thr'], threshold)
    weights = unwrap_state_dict(content)
    model = _build(model_config, weights, config.filename)
    if config.get('default_scope') == 'mmpretrain':
        weights = to_classifier(weights)
    check_fit(model, weights, str(checkpoint), meta=content.get('meta'))
    model.load_state_dict(weights, strict=False)  # after check_fit only BatchNorm's counters can be missing
    return model.eval(), config, categories


def _build(model: ConfigDict, weights: Mapping[str, Tensor], config_name: str) -> BaseModel:
    """Build a model of about as many parameters as its weights: a config that asks for more is another's.

    Raises:
        UserError: the config names no class, has arguments that its class refuses, or asks for far more
            parameters.
    """
    parameters = 4 * sum(tensor.numel() for tensor in weights.values()) + 10**7
    modules = 50 * len(weights) + 10**4

    def count_parameters(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal parameters
        if parameter is not None and not is_lazy(parameter):
            parameters -= parameter.numel()
        if parameters < 0:
            raise UserError(f'{config_name}: the model has far more parameters than the checkpoint')

    def count_modules(module: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal modules
        modules -= 1
        if modules < 0:
            raise UserError(f'{config_name}: the model has far more parts than the checkpoint')

    handles = [
        register_module_parameter_registration_hook(count_parameters),
        register_module_module_registration_hook(count_modules),
    ]
    try:
        with safe_loading():
            return MODELS.build(model)
    except UserError:
        raise
    except Exception as error:  # classes of the toolkits raise anything on arguments that they do not expect
        if not is_published_config(config_name):
            raise
        reason = ' '.join(f'{error}'.split())[:200] or type(error).__name__
        raise UserError(f'{config_name}: the model cannot be built: {reason}') from error
    finally:
        for handle in handles:
            handle.remove()


def task_of(config: Config) -> str:
    """Return 'detection', 'segmentation' or 'classification'."""
    tasks = dict(mmpretrain='classification', mmseg='segmentation')
    return tasks.get(config.get('default_scope', ''), 'detection')


def default_device() -> torch.device:
    """CUDA if available, else the CPU."""
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def test_dataset(config: Config) -> Mapping:
    """Return the config's (first) test data set.

    Raises:
        UserError: it has none, hence no test pipeline.
    """
    loader = config.get('test_dataloader')
    if not loader:
        raise UserError(
            f'{config.filename} has no test_dataloader, whose pipeline defines how images are prepared'
        )
    return next(leaf_datasets(loader.dataset))


def _categories(config: Config, dataset_meta: Mapping) -> Categories:
    """Take the classes from the checkpoint's ``dataset_meta``, or else from the config's test data."""
    dataset = test_dataset(config)
    names = dataset_meta.get('classes') or classes_of(dataset)
    if not names:
        raise UserError(
            'neither the checkpoint nor the config names the classes: '
            'set test_dataloader.dataset.metainfo.classes'
        )
    names = tuple(map(str, names))
    if is_image_folder(dataset):
        return Categories(names, tuple(range(len(names))))
    if is_semantic(dataset):
        default = dataset.get('reduce_zero_label', 'ADE' in dataset['type'])
        first = int(bool(dataset_meta.get('reduce_zero_label', default)))
        known = list(getattr(find_class(dataset['type']), 'METAINFO', {}).get('classes') or names)
        if set(names) <= set(known):  # some of a data set's classes keep their values
            return Categories(names, tuple(first + known.index(name) for name in names))
        return Categories(names, tuple(range(first, first + len(names))))
    if dataset_meta.get('category_ids'):
        return Categories(names, tuple(map(int, dataset_meta['category_ids'])))
    annotations = read_annotations(config)
    ids = {c['name']: c['id'] for c in annotations['categories']} if annotations else {}
    if set(names) <= set(ids):
        return Categories(names, tuple(ids[name] for name in names))
    return Categories(names, tuple(range(1, len(names) + 1)), own=False)


def _num_stuff(config: Config, dataset_meta: Mapping) -> int | None:
    """Return how many classes are stuff, by the checkpoint, else by a panoptic config's data."""
    if dataset_meta.get('classes') and 'stuff_classes' in dataset_meta:
        return len(dataset_meta['stuff_classes'])
    dataset = test_dataset(config)
    return stuff_of(dataset) if is_panoptic(dataset) else None


def _num_things(config: Config) -> int | None:
    """Return how many classes of a panoptic model are objects; None for other models."""
    head = config.model.get('panoptic_fusion_head') or {}
    is_on = (config.model.get('test_cfg') or {}).get('panoptic_on', True)
    return head.get('num_things_classes') if is_on else None


def read_annotations(config: Config) -> dict | None:
    """Read the COCO json of the config's test data set; None if it has none or the file does not exist.

    Raises:
        UserError: the file is not valid JSON.
    """
    dataset = test_dataset(config)
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file') or '')
    if path.suffix != '.json' or not path.is_file():
        return None
    content = read_json(path, 'download or write it again')
    return content if isinstance(content, dict) and {'images', 'categories'} <= set(content) else None


def test_image_ids(config: Config) -> dict[str, int]:
    """Map the real path of each test image to its id; empty if the annotations do not exist.

    With these ids, predictions on the images can be scored against the annotations.
    """
    annotations, dataset = read_annotations(config), test_dataset(config)
    if annotations is None:
        return {}
    folder = Path(dataset.get('data_root') or '') / (dataset.get('data_prefix') or {}).get('img', '')
    return {os.path.realpath(folder / image['file_name']): image['id'] for image in annotations['images']}
