"""What a run shows on the screen: our lines, a bar, the figures that count. The log file has everything."""

import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..evaluation.main_metrics import describe_metrics
from ..utils.progress import duration
from ..utils.verbosity import is_verbose
from .processes import process_rank, rank0_print

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Steps between two updates of the bar's loss: reading it waits for the device.
_LOSS_INTERVAL = 10


class _OursOnly(logging.Filter):
    """Pass errors, and what this package says."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or os.path.abspath(record.pathname).startswith(_PACKAGE)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f'{record.levelname.lower()}: ' if record.levelno >= logging.WARNING else ''
        return prefix + record.getMessage()


def quiet_logger(logger: logging.Logger) -> None:
    """Show only our own lines on the screen; warnings of libraries go to the log file, too."""
    files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler not in files:
            handler.addFilter(_OursOnly())
            handler.setFormatter(_Plain())
            if process_rank() > 0:
                handler.setLevel(logging.ERROR)
    if files or process_rank() > 0:
        warnings = logging.getLogger('py.warnings')
        warnings.handlers, warnings.propagate = files or [logging.NullHandler()], False
        logging.captureWarnings(True)


def quiet_coco() -> None:
    """Keep pycocotools from printing its progress, for the rest of the process."""
    import pycocotools.coco

    pycocotools.coco.print = lambda *_: None


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard what the block and the programs that it starts write to stderr."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


class ConsoleHook(Hook):
    """Show where a run stands: a bar on a terminal, a line every tenth elsewhere, a line per evaluation."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total, self._first, self._start = 0, 0, 0.0
        self._waited, self._paused_at, self._shown = 0.0, 0.0, -1
        self._streams: list[tuple[logging.StreamHandler, Any]] = []

    def before_train(self, runner: Runner) -> None:
        """Say what begins, and where its log is."""
        rank0_print(f'work dir: {runner.work_dir}, whole log: {_log_file(runner)}')
        loop, total = runner.train_loop, runner.max_iters
        length = f'{total} steps'
        if isinstance(loop, EpochBasedTrainLoop):
            epochs = f'{runner.max_epochs} epoch{"s" * (runner.max_epochs > 1)}'
            length = f'{epochs} of {len(loop.dataloader)} steps'
        where = f', from step {runner.iter}' if runner.iter else ''
        line = f'training: {length}{where}, {len(loop.dataloader.dataset)} images'
        if isinstance(runner.optim_wrapper, OptimWrapper):
            groups = runner.optim_wrapper.param_groups
            line += f', learning rate {max(group.get("initial_lr", group["lr"]) for group in groups):.3g}'
        rank0_print(line)
        self._begin(total, runner.iter, 'training', runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Advance."""
        done = runner.iter + 1
        if self._bar is not None and done % _LOSS_INTERVAL and done < self._total:
            self._bar.update(self._task, completed=done)
            return
        if self._bar is None and not self._is_tenth(done):
            return
        loss = (outputs or {}).get('loss')
        self._show(done, '' if loss is None else f'loss {float(loss):.3f}')

    def before_val(self, runner: Runner) -> None:
        """Stop the clock of the steps."""
        self._paused_at = time.monotonic()

    def after_val(self, runner: Runner) -> None:
        """Start it again."""
        self._waited += time.monotonic() - self._paused_at

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Print the figures of an evaluation."""
        text = describe_metrics(metrics or {})
        if not text:
            first = list((metrics or {}).items())[:4]
            text = ', '.join(f'{name} {value:.4g}' for name, value in first) or 'nothing found'
        is_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        when = f'epoch {runner.epoch}' if is_epoch else f'step {runner.iter}'
        rank0_print(f'{when}: {text}')

    def after_train(self, runner: Runner) -> None:
        """Close the bar, and say how to go on."""
        self.close()
        written = Path(runner.work_dir) / Path(runner.cfg.filename or 'config').with_suffix('.py').name
        rank0_print('evaluate: fastervit test ' + shlex.join([str(written), str(runner.work_dir)]))

    def before_test(self, runner: Runner) -> None:
        """Say what is evaluated."""
        loader = runner.test_loop.dataloader
        rank0_print(f'evaluating {len(loader.dataset)} images, whole log: {_log_file(runner)}')
        self._begin(len(loader), 0, 'evaluating', runner)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Advance."""
        if self._bar is not None:
            self._bar.update(self._task, completed=batch_idx + 1)
        elif self._is_tenth(batch_idx + 1):
            self._show(batch_idx + 1, '')

    def after_test(self, runner: Runner) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar; safe to call again."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            for handler, stream in self._streams:
                handler.setStream(stream)

    def _begin(self, total: int, done: int, title: str, runner: Runner) -> None:
        self._total, self._first, self._start, self._waited = total, done, time.monotonic(), 0.0
        self._shown = done * 10 // max(1, total)
        if runner.rank or not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[text]}'),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._task = self._bar.add_task(title, total=total, completed=done, text='')
        self._bar.start()
        self._streams = []
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                self._streams.append((handler, handler.setStream(sys.stdout)))  # above the bar

    def _is_tenth(self, done: int) -> bool:
        tenth = done * 10 // max(1, self._total)
        is_new, self._shown = tenth > self._shown, tenth
        return is_new

    def _show(self, done: int, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
            return
        seconds = (time.monotonic() - self._start - self._waited) / max(1, done - self._first)
        left = seconds * (self._total - done)
        parts = [text] if text else []
        parts += [f'{seconds:.2f} s a step'] + [f'{duration(left)} left'] * (done < self._total)
        rank0_print(f'step {done} of {self._total} ({done * 100 // self._total}%): {", ".join(parts)}')


def restore_screen(runner: Runner) -> None:
    """Close the bar of a run, also of one that ended before its time, and let Python show warnings again."""
    if not is_verbose():
        logging.captureWarnings(False)
        warnings = logging.getLogger('py.warnings')
        warnings.handlers, warnings.propagate = [], True
    for hook in runner.hooks:
        if isinstance(hook, ConsoleHook):
            hook.close()


def _log_file(runner: Runner) -> str:
    return os.path.join(runner._log_dir, f'{runner.timestamp}.log')
