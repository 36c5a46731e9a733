"""Profile a backbone: per stage (as figure S.4 of the paper) and per kind of operation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fastervit_backbone.benchmark.candidates import build_fastervit
from fastervit_backbone.benchmark.setting import Setting
from fastervit_backbone.benchmark.throughput import describe_machine, peak_memory, precision
from fastervit_backbone.models.deploy import PointwiseConv
from fastervit_backbone.models.fastervit import FasterViT
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import replacing
from fastervit_backbone.visualization.figures import new_figure, to_png

#: Kinds of operations by parts of the names of torch's kernels.
KINDS = {
    'matrix products': ('addmm', 'bmm', 'mm', 'baddbmm', 'linear', 'mkldnn_linear'),
    'convolutions': ('conv', 'cudnn', 'mkldnn_convolution', 'thnn'),
    'attention': ('attention', 'softmax'),
    'norms': ('norm',),
    'activations': ('gelu', 'relu', 'threshold', 'clamp_min'),
    'additions, scales': ('add', 'mul', 'div', 'sub'),
    'copies': ('copy', 'cat', 'clone', 'contiguous', 'pad', 'slice', 'fill', 'zero', 'index'),
}


@dataclass(frozen=True)
class Part:
    """A part of the network; ``gflops`` counts a multiply-add as two, ``peak_mib`` what a call allocates."""

    name: str
    seconds: float
    gflops: float
    peak_mib: float

    @property
    def gflops_per_second(self) -> float:
        """Arithmetic speed."""
        return self.gflops / self.seconds


def parts_of(net: FasterViT) -> list[tuple[str, nn.Module]]:
    """List stem, stages and downsamples, in order."""
    parts = [('stem', net.stem)]
    for i, stage in enumerate(net.stages, 1):
        parts.append((f'stage {i}', stage))
        if stage.downsample is not None:
            parts.append((f'downsample {i}', stage.downsample))
    return parts


@torch.inference_mode()
def profile_stages(net: FasterViT, images: torch.Tensor, rounds: int = 9) -> list[Part]:
    """Measure time, FLOPs and peak memory of every part, run in isolation on the output of the one before.

    Args:
        net: in eval mode (or the ``net`` of a deployed copy).
        images: (B, C, H, W).
        rounds: timed calls, of which the median counts.
    """
    device = images.device.type
    parts, x = [], images
    for name, module in parts_of(net):

        def run(module: nn.Module = module, x: torch.Tensor = x) -> torch.Tensor:
            return module(x)

        output = run()
        run()  # computes what is computed once per size
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
        seconds = _median_seconds(run, device, rounds)
        gflops = counter.get_total_flops() / 1e9
        peak_mib = (peak_memory(run, device) or 0) / 2**20
        parts.append(Part(name=name, seconds=seconds, gflops=gflops, peak_mib=peak_mib))
        x = output
    return parts


@torch.inference_mode()
def profile_operations(net: nn.Module, images: torch.Tensor, rounds: int = 3) -> dict[str, float]:
    """Measure seconds per forward by kind of operation, 'other' last, with the profiler's overhead."""
    cuda = images.is_cuda
    activities = [torch.profiler.ProfilerActivity.CPU]
    if cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    net(images)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(rounds):
            net(images)
    seconds = dict.fromkeys([*KINDS, 'other'], 0.0)
    for event in profile.key_averages():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a kernel, whose time its operation includes
        microseconds = event.self_device_time_total if cuda else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((k for k, parts in KINDS.items() if any(part in name for part in parts)), 'other')
        seconds[kind] += microseconds / 1e6 / rounds
    return seconds


@torch.inference_mode()
def plain_products(net: FasterViT, images: torch.Tensor) -> list[tuple[str, float]]:
    """Measure the device's limit: GFLOP/s of isolated products and convolutions of the network's shapes."""
    operations: dict[tuple[str, int], Callable[[], object]] = {}  # (name, FLOPs) -> operation

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0]
        if isinstance(module, nn.Linear | PointwiseConv):
            tokens, (out, width) = x.numel() // x.shape[-1], module.weight.shape[:2]
            flat = torch.randn(tokens, width, device=x.device, dtype=x.dtype)
            weight = module.weight.reshape(out, width)
            key = f'{tokens} x {width} -> {out}', 2 * tokens * width * out
            operations.setdefault(key, lambda: nn.functional.linear(flat, weight))
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            noise = torch.randn_like(x)
            out = nn.functional.conv2d(noise, module.weight, module.bias, module.stride, module.padding)
            flops = 2 * out.numel() * module.weight[0].numel()
            size = f'{"x".join(map(str, module.kernel_size))} on {x.shape[2]}x{x.shape[3]}'
            key = f'{module.in_channels} -> {module.out_channels}, {size}', flops
            operations.setdefault(key, lambda: module(noise))

    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d | PointwiseConv)]
    handles = [layer.register_forward_pre_hook(record) for layer in layers]
    net(images)
    for handle in handles:
        handle.remove()
    rates = []
    for (name, flops), operation in operations.items():
        operation()
        rates.append((name, flops / 1e9 / _median_seconds(operation, images.device.type, rounds=5)))
    return rates


def picture(parts: Sequence[Part], title: str) -> bytes:
    """Draw time, GFLOPs and memory of every part side by side, as a PNG."""
    figure, axes = new_figure((12, 3.4), columns=3, sharey=True)
    panels = {
        'time, ms': [1e3 * p.seconds for p in parts],
        'GFLOPs': [p.gflops for p in parts],
        'peak memory, MiB': [p.peak_mib for p in parts],
    }
    for axis, (label, values) in zip(axes, panels.items(), strict=True):
        bars = axis.barh([p.name for p in parts], values, color='#4477aa')
        axis.bar_label(bars, fmt='%.0f', padding=2)
        axis.set_xlabel(label)
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    figure.suptitle(title)
    return to_png(figure)


def _median_seconds(function: Callable[[], object], device: str, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        if device == 'cuda':
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[rounds // 2]


def write_stages(models: Sequence[str], setting: Setting, out: Path | None, command: str) -> str:
    """Profile each model, print the page, and write ``out.md`` with pictures if ``out`` is given.

    Args:
        models: ``fastervit:ARCH`` or ``fastervit:ARCH:deploy``.
        setting: eager inference in fp32 or bf16.
        out: path without suffix.
        command: that made the page.

    Returns:
        the page.

    Raises:
        UserError: a model that is not a FasterViT of this package, or another dtype.
    """
    machine = describe_machine(setting.device)
    text = (
        f'# Where the time goes\n\nWritten by `{command}`: {machine["device"]}, {machine["threads"]} '
        f'threads, torch {machine["torch"]}, commit {machine["commit"]}.\n'
    )
    for name in models:
        if not name.startswith('fastervit:') or setting.dtype not in ('fp32', 'bf16'):
            raise UserError(
                '--stages profiles fastervit:ARCH or fastervit:ARCH:deploy in fp32 or bf16, '
                f'got {name} in {setting.dtype}'
            )
        section, parts = _profile(name, setting)
        text += section
        if out is not None and find_spec('matplotlib'):
            path = out.with_name(f'{out.name}_{name.replace(":", "-")}.png')
            height, width = setting.size
            with replacing(path) as temporary:
                temporary.write_bytes(picture(parts, f'{name}, {height}x{width}, {setting.dtype}'))
            text += f'\n![stages]({path.name})\n'
    print(text)
    if out is not None:
        with replacing(out.with_name(f'{out.name}.md')) as temporary:
            temporary.write_text(text)
    return text


def _profile(name: str, setting: Setting) -> tuple[str, list[Part]]:
    """Profile a model; returns its section of the page, and its parts."""
    net, casts_itself = build_fastervit(name.removeprefix('fastervit:'), setting)
    images = torch.randn(setting.batch, 3, *setting.size, device=setting.device)
    if casts_itself:
        images = images.to(net.dtype, memory_format=torch.channels_last)
        net = net.net
    with precision(setting.dtype), setting.autocast(enabled=not casts_itself):
        parts = profile_stages(net, images)
        seconds_by_kind = profile_operations(net, images)
        limits = plain_products(net, images)
    whole = Part(
        name='all',
        seconds=sum(p.seconds for p in parts),
        gflops=sum(p.gflops for p in parts),
        peak_mib=max(p.peak_mib for p in parts),
    )
    total_seconds = sum(seconds_by_kind.values())
    height, width = setting.size
    rows = []
    for p in [*parts, whole]:
        speed = f'{p.gflops:.1f} | {p.gflops_per_second:.0f}'
        rows.append(f'| {p.name} | {1e3 * p.seconds:.1f} | {speed} | {p.peak_mib:.0f} |')
    lines = [
        f'\n## {name}, {setting.batch} x 3 x {height} x {width}, {setting.dtype}\n',
        '| part | ms | GFLOPs | GFLOP/s | peak MiB |\n|---|---|---|---|---|',
        *rows,
        '\n| operations | ms | share |\n|---|---|---|',
        *(f'| {k} | {1e3 * s:.1f} | {s / total_seconds:.0%} |' for k, s in seconds_by_kind.items()),
        '\nThe limit: the same products and convolutions in isolation, with their inputs in memory.\n',
        '| channels and tokens | GFLOP/s |\n|---|---|',
        *(f'| {shape} | {rate:.0f} |' for shape, rate in limits),
    ]
    return '\n'.join(lines) + '\n', parts
