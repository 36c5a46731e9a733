"""Explain errors of a training that a user can fix."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from mmengine.config import Config

from ...utils.errors import CheckpointError, OtherProcessError, UserError
from ..config.auto_scale_lr import accumulated_iterations

#: Parts of what gloo and NCCL say when the other end of a connection is gone.
_OTHER_PROCESS_ENDED = ('Connection closed by peer', 'Connection reset by peer', 'remote process exited')
#: And when it does not answer.
_TIMED_OUT = ('Timed out waiting', 'Application timeout caused pair closure', 'Watchdog caught')


@contextmanager
def readable_errors(config: Config) -> Iterator[None]:
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
        case RuntimeError():
            return _of_other_processes(text, resume)
    return None


@contextmanager
def readable_errors_of_processes() -> Iterator[None]:
    """Turn what gloo and NCCL say of other processes into one line, in an evaluation."""
    try:
        yield
    except RuntimeError as error:
        readable = _of_other_processes(str(error), 'start it again')
        if readable is None:
            raise
        raise readable from error


def _of_other_processes(text: str, again: str) -> UserError | None:
    reason = text.splitlines()[0][:120] if text else ''
    if any(part in text for part in _OTHER_PROCESS_ENDED):
        return OtherProcessError(
            f'another process of the run ended ({reason}): its own message says why; {again}'
        )
    if any(part in text for part in _TIMED_OUT):
        return UserError(
            f'another process did not answer in time ({reason}): env_cfg.dist_cfg.timeout=SECONDS waits '
            f'longer; {again}'
        )
    return None
