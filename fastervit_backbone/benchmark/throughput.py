"""Compare the speed of several models: interleaved in one process, with medians, spread and peak memory."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..utils.commit import current_commit
from .candidates import build
from .setting import Setting

#: A turn repeats the call for at least this long, so that clock resolution and queues do not matter.
TURN_SECONDS = 0.05


@dataclass(frozen=True)
class Timing:
    """One model in one setting.

    Attributes:
        model: its name.
        seconds: per call, median over the turns.
        p95: seconds per call, 95th percentile.
        images_per_second: batch over median.
        peak_mib: MiB of tensors allocated during a call, without weights and images; None if unknown. Of an
            exported file: what loading and running it adds to a fresh process, with weights.
        ratio: speed over that of the first model, median over the turns; above 1 is faster.
        ratio_low, ratio_high: quartiles of the ratio over the turns.
        file_mib: size of an exported file; None for others.
        accuracy: metrics of that very file, as its json has them.
        first_seconds: of the first call, in which torch.compile compiles.
    """

    model: str
    seconds: float
    p95: float
    images_per_second: float
    peak_mib: float | None
    ratio: float
    ratio_low: float
    ratio_high: float
    file_mib: float | None = None
    accuracy: str = ''
    first_seconds: float = 0.0


def compare(names: Sequence[str], setting: Setting, rounds: int = 15, warmup: int = 2) -> list[Timing]:
    """Time models interleaved (A B A B ...).

    Args:
        names: as of :func:`~fastervit_backbone.benchmark.candidates.build`; ratios compare with the first.
        setting: for all models.
        rounds: turns of each model.
        warmup: calls of each model before, at least 1.

    Returns:
        one row per model, in order.

    Raises:
        UserError: as ``build``.
    """
    with precision(setting.dtype):
        return compare_steps({name: build(name, setting) for name in names}, setting, rounds, warmup)


def compare_steps(
    steps: Mapping[str, Callable[[], object]], setting: Setting, rounds: int = 15, warmup: int = 2
) -> list[Timing]:
    """Time functions interleaved, like :func:`compare`; ``steps``: name -> function of one call."""
    with precision(setting.dtype):
        functions = list(steps.values())
        calls_per_turn, first = [], []
        for step in functions:
            first.append(_time(step, 1, setting.device))
            for _ in range(warmup - 1):
                step()
            call_seconds = max(_time(step, 1, setting.device), 1e-6)
            calls_per_turn.append(max(1, round(TURN_SECONDS / call_seconds)))
        turns: list[list[float]] = [[] for _ in functions]
        for _ in range(rounds):
            for step, calls, seconds in zip(functions, calls_per_turn, turns, strict=True):
                seconds.append(_time(step, calls, setting.device))
        peaks = [_peak(step, setting.device) for step in functions]
    rows = zip(steps, turns, peaks, strict=True)
    timings = [_summarize(name, setting, turns[0], seconds, peak) for name, seconds, peak in rows]
    return [
        replace(
            row,
            file_mib=getattr(step, 'size_mib', None),
            accuracy=getattr(step, 'accuracy', ''),
            first_seconds=seconds,
        )
        for row, step, seconds in zip(timings, functions, first, strict=True)
    ]


def _peak(step: Callable[[], object], device: str) -> int | None:
    own = getattr(step, 'peak_bytes', None)  # of an exported file, whose memory torch does not know
    return own() if own is not None else peak_memory(step, device)


def _summarize(
    name: str, setting: Setting, reference: list[float], seconds: list[float], peak_bytes: int | None
) -> Timing:
    """Summarize the turns of a model; ``reference`` and ``seconds`` are seconds per call of each turn."""
    ratios = [a / b for a, b in zip(reference, seconds, strict=True)]
    several = len(seconds) > 1
    median = statistics.median(seconds)
    ratio_low, _, ratio_high = statistics.quantiles(ratios, n=4) if several else ratios * 3
    return Timing(
        model=name,
        seconds=median,
        p95=statistics.quantiles(seconds, n=20, method='inclusive')[-1] if several else median,
        images_per_second=setting.batch / median,
        peak_mib=None if peak_bytes is None else peak_bytes / 2**20,
        ratio=statistics.median(ratios),
        ratio_low=ratio_low,
        ratio_high=ratio_high,
    )


def _time(step: Callable[[], object], calls: int, device: str) -> float:
    """Measure the seconds per call."""
    if device == 'cuda':
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000 / calls
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - begin) / calls


def peak_memory(function: Callable[[], object], device: str) -> int | None:
    """Measure the peak bytes of tensors allocated during a call, without existing ones; None if unknown."""
    gc.collect()
    if device == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        function()
    results = getattr(profile.profiler, 'kineto_results', None)
    events = [] if results is None else results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == '[memory]')
    allocated = peak = 0
    for _, num_bytes in changes:
        allocated += num_bytes
        peak = max(peak, allocated)
    return peak or None


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """On CUDA, allow TensorFloat-32 for every dtype but 'fp32'."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype != 'fp32'
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def describe_machine(device: str) -> dict[str, object]:
    """Describe what a row was measured on: processor, threads, versions, commit."""
    packages = {}
    for package in ('timm', 'fastervit', 'mmdet', 'onedl-mmdetection', 'onnxruntime', 'openvino', 'nncf'):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return dict(
        device=torch.cuda.get_device_name() if device == 'cuda' else _processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        cuda=torch.version.cuda if device == 'cuda' else None,
        python=platform.python_version(),
        packages=packages,
        commit=current_commit(),
    )


def to_records(rows: Sequence[Timing], setting: Setting, machine: dict[str, object]) -> list[dict]:
    """Convert rows to JSON records, each with its setting and machine."""
    return [asdict(row) | dict(setting=asdict(setting), machine=machine) for row in rows]


def _processor() -> str:
    """Name the processor, its vector units and cores."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(':') for line in lines)}
    flags = fields.get('flags', '').split()
    units = dict(avx512f='AVX-512', avx512_bf16='bf16', amx_bf16='AMX')
    details = [name for flag, name in units.items() if flag in flags] + [f'{os.cpu_count()} cores']
    return f'{fields.get("model name", platform.processor())} ({", ".join(details)})'
