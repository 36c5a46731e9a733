"""Speed of several models against each other: in one process, by turns, with medians, spread and peak memory."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..utils.commit import current_commit
from .candidates import Setting, build

#: A turn is as many calls as take this long, so that clocks and queues do not matter.
TURN_SECONDS = 0.05


@dataclass(frozen=True)
class Timing:
    """One model in one setting.

    Attributes:
        model: its name.
        seconds: of one call, median over the turns.
        p95: 95th percentile.
        images_per_second: batch over median.
        peak_mib: MiB of tensors allocated during a call beyond those that were there before (weights, images); None where unknown.
        ratio: speed over that of the first model, median over the turns; above 1 is faster.
        ratio_low, ratio_high: the quartiles of that over the turns.
    """

    model: str
    seconds: float
    p95: float
    images_per_second: float
    peak_mib: float | None
    ratio: float
    ratio_low: float
    ratio_high: float


def compare(names: Sequence[str], setting: Setting, rounds: int = 15, warmup: int = 2) -> list[Timing]:
    """Time models by turns (A B A B ...).

    Args:
        names: as :func:`~fastervit_backbone.benchmark.candidates.build` takes them; the first is what the others are compared with.
        setting: of all.
        rounds: turns of each.
        warmup: calls of each before.

    Returns:
        one row a model, in order.

    Raises:
        UserError: as ``build``.
    """
    with precision(setting.dtype):
        works = [build(name, setting) for name in names]
        calls = []
        for work in works:
            for _ in range(warmup):
                work()
            calls.append(max(1, round(TURN_SECONDS / max(_time(work, 1, setting.device), 1e-6))))
        times: list[list[float]] = [[] for _ in works]
        for _ in range(rounds):
            for work, count, own in zip(works, calls, times, strict=True):
                own.append(_time(work, count, setting.device))
        peaks = [peak_memory(work, setting.device) for work in works]
    return [
        _timing(name, setting, times[0], own, peak)
        for name, own, peak in zip(names, times, peaks, strict=True)
    ]


def _timing(name: str, setting: Setting, first: list[float], own: list[float], peak: int | None) -> Timing:
    ratios = [a / b for a, b in zip(first, own, strict=True)]
    median = statistics.median(own)
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    p95 = statistics.quantiles(own, n=20, method='inclusive')[-1] if len(own) > 1 else own[0]
    mib = None if peak is None else peak / 2**20
    return Timing(name, median, p95, setting.batch / median, mib, statistics.median(ratios), low, high)


def _time(work: Callable[[], None], calls: int, device: str) -> float:
    """Seconds of a call."""
    if device == 'cuda':
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000 / calls
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - begin) / calls


def peak_memory(work: Callable[[], object], device: str) -> int | None:
    """Bytes of tensors that a call allocates at most at once beyond those there before; None where torch records none."""
    gc.collect()
    if device == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    results = getattr(profile.profiler, 'kineto_results', None)
    changes = (
        []
        if results is None
        else [(e.start_ns(), e.nbytes()) for e in results.events() if e.name() == '[memory]']
    )
    held = peak = 0
    for _, change in sorted(changes):
        held += change
        peak = max(peak, held)
    return peak or None


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """On CUDA: fp32 without and tf32 with the tensor cores' short mantissa."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype != 'fp32'
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def machine(device: str) -> dict[str, object]:
    """What a row was measured on: processor, threads, versions, commit."""
    name = torch.cuda.get_device_name() if device == 'cuda' else _processor()
    packages = {}
    for package in ('timm', 'fastervit', 'mmdet', 'onedl-mmdetection'):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return dict(
        device=name, threads=torch.get_num_threads(), torch=torch.__version__, cuda=torch.version.cuda if device == 'cuda' else None,
        python=platform.python_version(), packages=packages, commit=current_commit(),
    )  # fmt: skip


def record(rows: Sequence[Timing], setting: Setting, where: dict[str, object]) -> list[dict]:
    """Rows as JSON has them: each with its setting and machine."""
    return [asdict(row) | dict(setting=asdict(setting), machine=where) for row in rows]


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next(
        (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')),
        platform.processor(),
    )
    flags = next((line.split(':', 1)[1].split() for line in lines if line.startswith('flags')), [])
    known = [
        name
        for flag, name in (('avx512f', 'AVX-512'), ('avx512_bf16', 'bf16'), ('amx_bf16', 'AMX'))
        if flag in flags
    ]
    return f'{model} ({", ".join([*known, f"{os.cpu_count()} cores"])})'
