"""Training behind tools/train.py."""

import copy
import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..checkpoints.class_rows import first_difference, meet_classes
from ..checkpoints.classifier import to_classifier
from ..checkpoints.data_meta import data_meta
from ..checkpoints.io import read_checkpoint, resolve_checkpoint, safe_loading, unwrap_state_dict
from ..checkpoints.published import check_fit
from ..engine.config.auto_scale_lr import accumulated_iterations, count_in_steps, scale_learning_rate
from ..engine.config.batch_norm import check_batch
from ..engine.config.validate import classes_of, leaf_datasets
from ..engine.console import restore_screen
from ..engine.hooks.accumulated_gradients import AccumulatedGradientsHook
from ..engine.hooks.look_before_training import LookBeforeTrainingHook
from ..engine.hooks.non_finite_guard import NonFiniteGuardHook
from ..engine.hooks.save_on_signal import SaveOnSignalHook
from ..engine.hooks.unreadable_images import UnreadableImageHook
from ..engine.processes import rank0_print, world_size
from ..engine.runner.build import build_runner, drop_pretrained, prepare, unwrap_model
from ..engine.runner.resumable_runner import ResumableRunner
from ..engine.runner.work_dir import checkpoints_of, locked
from ..engine.runner.workers import end_workers
from ..models.compiled import check_compiler, compile_backbone
from ..utils.errors import CheckpointError, UserError


def train(
    config_path: str | Path,
    *,
    work_dir: str | Path | None = None,
    amp: bool = False,
    compile: bool = False,
    resume: bool | str | Path = False,
    seed: int | None = None,
    auto_scale_lr: bool = True,
    max_unreadable: int = 10,
    max_non_finite: int = 5,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
) -> nn.Module:
    """Train a model from a config.

    Args:
        config_path: config file.
        work_dir: folder of checkpoints and logs; default ``work_dirs/<config name>``.
        amp: mixed precision on a CUDA device: bfloat16 if supported, else float16 with loss scaling.
        compile: compile the backbone (:func:`~fastervit_backbone.models.compiled.compile_in_place`).
        resume: True or 'auto': resume from the work dir's last checkpoint, if any; a path: from that file.
        seed: random seed.
        auto_scale_lr: scale the learning rate linearly to the actual batch (batch size x processes).
        max_unreadable: number of unreadable images that are replaced before the run stops.
        max_non_finite: number of consecutive steps with a non-finite loss or gradient that are skipped before
            the run stops.
        options: ``--cfg-options``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        the trained model.

    Raises:
        UserError: bad input. Configs, data and files are checked before anything is built or written.
        Interrupted: the run received SIGTERM or Ctrl-C; it wrote a checkpoint.
    """
    options, resume = dict(options or {}), True if resume == 'auto' else resume
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    _check_arguments(device, amp, compile, max_unreadable, max_non_finite)
    if amp:
        options = {f'optim_wrapper.{key}': value for key, value in amp_options().items()} | options
    config = prepare(config_path, work_dir, options, launcher, splits=('train', 'val'))
    if seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=seed)
    _keep_two_checkpoints(config)
    with locked(config.work_dir):
        count_in_steps(config)
        given_config = copy.deepcopy(config)
        weights, meta = _find_start(config, resume or config.get('resume', False))
        if config.get('resume') and given_config.get('resume'):
            # a later run need not find the checkpoint that this one resumes from
            given_config.load_from = None
        if config.get('randomness') is not None:
            given_config.randomness = config.randomness
        scale_learning_rate(config, auto_scale_lr, world_size(launcher))
        check_batch(config)
        runner = build_runner(config, launcher, given_config)
        if compile:
            compile_backbone(runner.model, device)
        if weights is not None:
            names = data_meta(dict(meta=meta), config.load_from).get('classes')
            weights = _adapt(runner, config, weights, names)
        # FlexibleRunner builds the model later
        if weights is not None and isinstance(runner.model, nn.Module):
            model, partial = unwrap_model(runner.model), not config.resume
            check_fit(model, weights, config.load_from, partial=partial, meta=meta)
        del weights  # the runner reads the file itself: do not keep a second copy during training
        save_on_signal = SaveOnSignalHook()
        guards = (UnreadableImageHook(max_unreadable), NonFiniteGuardHook(max_non_finite))
        hooks = [_CategoryIdsHook(), LookBeforeTrainingHook(), *guards, save_on_signal]
        if isinstance(runner, ResumableRunner):
            hooks.append(AccumulatedGradientsHook())
        for hook in hooks:
            runner.register_hook(hook)
        try:
            with safe_loading(), _readable_errors(config):
                return runner.train()
        finally:
            save_on_signal.restore()
            restore_screen(runner)
            end_workers(runner)


def _check_arguments(device: str, amp: bool, compile: bool, max_unreadable: int, max_non_finite: int) -> None:
    if amp and device == 'cpu':
        raise UserError('--amp needs a CUDA device, but torch finds none: omit --amp')
    if compile:
        check_compiler(device)
    if max_unreadable < 0:
        raise UserError(f'--max-unreadable {max_unreadable}: must be at least 0')
    if max_non_finite < 1:
        raise UserError(f'--max-non-finite {max_non_finite}: must be at least 1')


def amp_options() -> dict[str, object]:
    """Return the ``optim_wrapper`` of mixed precision on the current CUDA device.

    bfloat16, where the device computes in it, has the range of float32 and needs no loss scaling.
    """
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
    return dict(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')


@contextmanager
def _readable_errors(config: Config) -> Iterator[None]:
    """Turn errors that a user can fix into a UserError with its remedy; others keep their traceback."""
    try:
        yield
    except Exception as error:
        readable = _explain(error, config)
        if readable is None:
            raise
        raise readable from error


def _explain(error: Exception, config: Config) -> UserError | None:
    """Return the UserError that explains ``error``; None for a bug, or if ``error`` needs no explanation."""
    text, resume = str(error), '--resume continues from the last checkpoint'
    match error:
        case UserError() if text.startswith('Caught '):  # from a data loading worker, with its traceback
            return UserError(text.rsplit('Error: ', 1)[-1])
        case URLError():  # mmdet's and mmseg's own backbones download their weights when training starts
            return UserError(
                f'download of pretrained weights failed ({error.reason}): connect to the network, or train '
                'from scratch with --cfg-options model.backbone.init_cfg=None'
            )
        case UnpicklingError():
            return CheckpointError(
                f'pretrained weights contain more than data ({text.splitlines()[0]}): not loaded'
            )
        case torch.cuda.OutOfMemoryError():
            batch, iterations = config.train_dataloader.batch_size, accumulated_iterations(config)
            smaller = f'train_dataloader.batch_size={max(1, batch // 2)}'
            if batch > 1:
                smaller += (
                    f' with optim_wrapper.accumulative_counts={2 * iterations} (as many images per step)'
                )
            return UserError(
                f'out of GPU memory at batch {batch} ({text.split(". ")[0]}): use {smaller}, --amp, or '
                f'model.backbone.with_cp=True; {resume}'
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            path = error.filename or config.work_dir
            return UserError(f'cannot write {path} ({error.strerror}): make space; {resume}')
        case RuntimeError() if text.startswith('DataLoader worker (pid'):
            workers = max(0, config.train_dataloader.get('num_workers', 0) // 2)
            cause = text.split('\n')[0]
            return UserError(
                f'a data loading worker died ({cause}), often from lack of memory: '
                f'train_dataloader.num_workers={workers} needs less; {resume}'
            )
    return None


class _CategoryIdsHook(Hook):
    """Stores the data set's category ids with its classes in every checkpoint, for prediction."""

    def before_run(self, runner: Runner) -> None:
        dataset = leaf = runner.train_dataloader.dataset
        while not hasattr(leaf, 'cat_ids'):  # unwrap
            leaf = getattr(leaf, 'dataset', None) or next(iter(getattr(leaf, 'datasets', ())), None)
            if leaf is None:
                return
        dataset._metainfo['category_ids'] = [int(i) for i in leaf.cat_ids]


def _adapt(
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

    def adapt(tensors: dict) -> dict:
        tensors = to_classifier(tensors) if is_classifier else tensors
        return meet_classes(tensors, names, wanted, source, fresh=True)[0]

    runner.adapt_weights = adapt
    weights, said = meet_classes(weights, names, wanted, source, fresh=True)
    if said:
        rank0_print(said)
    return weights


def _find_start(config: Config, resume: bool | str | Path) -> tuple[dict[str, torch.Tensor] | None, object]:
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


def _keep_two_checkpoints(config: Config) -> None:
    """Keep at least two checkpoints: mmengine removes old ones before it writes the next."""
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('max_keep_ckpts') == 1:
        hook['max_keep_ckpts'] = 2
        rank0_print(
            'default_hooks.checkpoint.max_keep_ckpts 1 -> 2: '
            'the last checkpoint is kept until the next one is complete'
        )
