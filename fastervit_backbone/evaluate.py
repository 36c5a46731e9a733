"""Evaluation behind fastervit test."""

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from .checkpoints.class_rows import meet_classes
from .checkpoints.classifier import number_of_classes, select_classes, to_classifier
from .checkpoints.data_meta import data_meta
from .checkpoints.io import read_checkpoint, unwrap_state_dict
from .checkpoints.model_folder import HUB, one_line, resolve_model
from .checkpoints.published import check_fit
from .checkpoints.safe_loading import safe_loading
from .datasets.imagenet import IMAGENET_CLASSES, synsets
from .engine.config.auto_scale_lr import is_hook
from .engine.config.reading import as_list, classes_of, leaf_datasets, pixel_format
from .engine.console import restore_screen
from .engine.hooks.pictures import ComparisonPictures, write_overview
from .engine.processes import rank0_print
from .engine.runner.build import build_runner, prepare, unwrap_model
from .engine.runner.readable_errors import readable_errors_of_processes
from .engine.runner.resumable_runner import ResumableRunner
from .engine.runner.work_dir import find_checkpoint
from .engine.runner.workers import end_workers
from .evaluation.main_metrics import describe_metrics
from .inference.exported import ExportedModel
from .inference.exported_formats import is_exported
from .inference.exported_in_toolkit import ExportedInToolkit, check_classes
from .models.fastervit import FasterViT
from .utils.errors import UserError
from .utils.files import check_file_writable, check_folder_writable, replacing


def evaluate(
    config_path: str | Path,
    checkpoint: str | Path | None = None,
    *,
    work_dir: str | Path | None = None,
    show_dir: str | Path | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
    tta: bool = False,
    deploy: bool = False,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
) -> dict[str, float]:
    """Evaluate a checkpoint on a config's test data.

    Args:
        config_path: config file, or a published folder.
        checkpoint: file, work dir (its last checkpoint), or exported file; None for a published folder.
        work_dir: folder of the log; default ``work_dirs/<config name>``.
        show_dir: folder for a picture of every image with its ground truth and prediction, and an overview.
        out: file for the predictions (``.pkl``) or the metrics (``.json``).
        data: folder of class folders for a classifier, instead of the config's test data. It may have only
            some of the checkpoint's classes (ImageNet-A and -R have 200): the others are no answers then.
        tta: average over the scales and flips of the config's ``tta_pipeline``, with its ``tta_model``.
        deploy: run the backbone in deploy mode (:meth:`~fastervit_backbone.FasterViT.deploy`).
        options: ``--cfg-options``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        metric names and values.

    Raises:
        UserError: bad input, or a checkpoint that does not fit the model.
    """
    if checkpoint is None and work_dir is None:
        work_dir = _work_dir_of(config_path)
    config_path, checkpoint = resolve_model(config_path, checkpoint)
    with one_line(config_path):
        config = prepare(config_path, work_dir, options, launcher, splits=('test',), test_data=data)
        given_config = copy.deepcopy(config)
        _adapt(config, config_path, tta, deploy)
        out, show_dir = _check_outputs(out, show_dir)
        exported = _open_exported(checkpoint, config, options, data=data, tta=tta, deploy=deploy)
        path = find_checkpoint(checkpoint) if exported is None else exported.path
        # resuming would also need an optimizer
        config.update(load_from=str(path) if exported is None else None, resume=False)
        runner = build_runner(config, launcher, given_config)
        _set_model(runner, config, path, exported)
        _register_outputs(runner, config.get('default_scope'), show_dir, out)
        if deploy:
            runner.register_hook(_DeployHook())
        if tta:
            runner.register_hook(_TTAHook(config.tta_model))
        try:
            with safe_loading(), readable_errors_of_processes():
                metrics = runner.test()
        finally:
            restore_screen(runner)
            end_workers(runner)
        if runner.rank == 0:
            if out is not None and out.suffix == '.json':
                _write_metrics(out, metrics, config=str(config_path), checkpoint=str(path))
            for line in _summary(metrics, show_dir, out):
                rank0_print(line)
        return metrics


def _work_dir_of(published: str | Path) -> Path:
    """Return the default work dir of a published folder: config.py would be the name of all of them."""
    name = str(published) if str(published).startswith(HUB) else os.path.abspath(published)
    return Path('work_dirs') / Path(name).name


def _adapt(config: Config, config_path: str | Path, tta: bool, deploy: bool) -> None:
    """Change a config, in place, for test-time augmentation and for deploy mode."""
    if tta:
        missing = [name for name in ('tta_model', 'tta_pipeline') if not config.get(name)]
        if missing:
            names = ' and no '.join(missing)
            raise UserError(f'--tta: {config.filename} has no {names}: add them to the config, or omit --tta')
        config.test_dataloader.dataset.pipeline = config.tta_pipeline
    if deploy:
        kind = config.model.get('backbone', {}).get('type')
        if kind != 'FasterViT':
            raise UserError(
                f'--deploy: the backbone of {config_path} is {kind}, which has no deploy mode: omit --deploy'
            )
        # it would swap the weights before testing; those of a checkpoint are the averaged ones already
        hooks = as_list(config.get('custom_hooks'))
        config.custom_hooks = [hook for hook in hooks if not is_hook(hook, 'EMAHook')]


class _DeployHook(Hook):
    """Switches the backbone to deploy mode once its weights are loaded."""

    def before_test(self, runner: Runner) -> None:
        model = unwrap_model(runner.model)
        assert isinstance(model.backbone, FasterViT)
        model.backbone = model.backbone.deploy()


class _TTAHook(Hook):
    """Wraps the model in the config's ``tta_model``; mmengine's own hook would keep DDP inside."""

    def __init__(self, tta_model: Mapping) -> None:
        self.tta_model = dict(tta_model)

    def before_test(self, runner: Runner) -> None:
        model = unwrap_model(runner.model)
        if str(self.tta_model.get('type')).endswith('SegTTAModel') and getattr(model, 'out_channels', 0) == 1:
            from .engine.seg_tta import BinaryTTAModel

            options = {k: v for k, v in self.tta_model.items() if k not in ('type', '_scope_')}
            runner.model = BinaryTTAModel(module=model, **options)
            return
        runner.model = MODELS.build(dict(self.tta_model, module=model))


def _open_exported(
    checkpoint: str | Path, config: Config, options: Mapping[str, object] | None, **arguments: object
) -> ExportedModel | None:
    """Open an exported file; None for a checkpoint."""
    if not is_exported(checkpoint):
        return None
    given = [f'--{name}' for name, value in arguments.items() if value]
    given += [f'--cfg-options {key}' for key in options or () if key.startswith(('model', 'test_pipeline'))]
    if given:
        raise UserError(f'{given[0]}: {checkpoint} is fixed: evaluate the checkpoint with it')
    exported = ExportedModel(checkpoint)
    check_classes(exported, config)
    return exported


def _set_model(runner: Runner, config: Config, path: Path, exported: ExportedModel | None) -> None:
    """Put an exported file in place of the model, or check that the weights fit it."""
    if exported is None:
        _check_weights(runner, config, path)
    else:
        runner.model = ExportedInToolkit(exported)


def _check_outputs(out: str | Path | None, show_dir: str | Path | None) -> tuple[Path | None, Path | None]:
    """Return both as paths; raise UserError if one cannot be written."""
    if out is not None:
        out = Path(out)
        check_file_writable('--out', out)
        if out.suffix not in ('.pkl', '.json'):
            raise UserError(f'--out {out}: the name must end in .pkl (predictions) or .json (metrics)')
    if show_dir is not None:
        check_folder_writable('--show-dir', show_dir)
        show_dir = Path(os.path.abspath(show_dir))  # mmdet would join a relative path to its own run folder
    return out, show_dir


def _check_weights(runner: Runner, config: Config, path: Path) -> None:
    """Raise an error unless the weights fit the model and the data; tell the runner how to adapt them."""
    content = read_checkpoint(path)
    weights = unwrap_state_dict(content)
    if config.get('default_scope') != 'mmpretrain' and isinstance(runner, ResumableRunner):
        names = data_meta(content, str(path)).get('classes')
        wanted = classes_of(next(leaf_datasets(config.test_dataloader.dataset)))
        runner.adapt_weights = lambda tensors: meet_classes(tensors, names, wanted, str(path), fresh=False)[0]
        weights, said = meet_classes(weights, names, wanted, str(path), fresh=False)
        if said:
            rank0_print(said)
    if config.get('default_scope') == 'mmpretrain' and isinstance(runner, ResumableRunner):
        runner.adapt_weights = _classifier_weights(config, content, str(path))
        weights = to_classifier(weights)
        adapted = runner.adapt_weights(weights)
        before, after = (number_of_classes(tensors) for tensors in (weights, adapted))
        if before != after:
            rank0_print(f'the data has {after} of the {before} classes: only those are possible answers')
        weights = adapted
    if isinstance(runner.model, nn.Module):  # mmengine's FlexibleRunner builds the model later
        check_fit(unwrap_model(runner.model), weights, str(path), meta=content.get('meta'))


def _classifier_weights(config: Config, content: Mapping, path: str) -> Callable[[dict], dict]:
    """Return the function that fits a checkpoint's weights to the classifier and the classes of the data."""
    wanted = classes_of(next(leaf_datasets(config.test_dataloader.dataset)))
    names = data_meta(content, path).get('classes')

    def adapt(weights: dict) -> dict:
        weights = to_classifier(weights)
        count = number_of_classes(weights)
        known = names or (list(synsets('imagenet-1k').values()) if count == IMAGENET_CLASSES else None)
        if not wanted or known is None or len(known) != count or list(known) == list(wanted):
            return weights
        return select_classes(weights, known, wanted, path)

    return adapt


def _register_outputs(runner: Runner, scope: str | None, show_dir: Path | None, out: Path | None) -> None:
    """Write pictures with our hooks, and a .pkl of predictions."""
    if show_dir is not None:
        pipeline = next(leaf_datasets(runner.cfg.test_dataloader.dataset)).get('pipeline')
        runner.register_hook(ComparisonPictures(show_dir, pixels=pixel_format(pipeline)))
    if out is not None and out.suffix == '.pkl':
        if scope != 'mmdet':
            from mmengine.evaluator import DumpResults as Dump
        else:
            from mmdet.evaluation import DumpDetResults as Dump
        runner.test_evaluator.metrics.append(Dump(out_file_path=str(out)))


def _write_metrics(path: Path, metrics: Mapping[str, float], **source: str) -> None:
    content = dict(source, metrics={name: float(value) for name, value in metrics.items()})
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n')


def _summary(metrics: Mapping[str, float], show_dir: Path | None, out: Path | None) -> list[str]:
    """Format the main metrics, and what was written where."""
    text = describe_metrics(metrics)
    lines = [text] if text else []
    if not metrics:
        lines.append('no detections in any image, so there is nothing to score: AP 0')
    if show_dir is not None:
        overview = write_overview(show_dir)
        overview_note = f', overview of the first ones: {overview}' if overview else ''
        lines.append(f'pictures of ground truth and prediction: {show_dir}{overview_note}')
    if out is not None:
        lines.append(f'written: {out}')
    return lines
