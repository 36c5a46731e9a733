"""Where the time of a backbone goes: per stage (as figure S.4 of the paper) and per kind of operation."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..models.deploy import PointwiseConv
from ..models.fastervit import FasterViT
from ..utils.errors import UserError
from ..utils.files import replacing
from .candidates import Setting, fastervit
from .throughput import machine, peak_memory, precision

#: Kinds of operations by the names of torch's kernels.
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
    """A part of the network: ``gflops`` counts a multiply-add as two, ``peak_mib`` what is allocated while it runs."""

    name: str
    seconds: float
    gflops: float
    peak_mib: float

    @property
    def gflops_per_second(self) -> float:
        """Arithmetic speed reached."""
        return self.gflops / self.seconds


def parts_of(net: FasterViT) -> list[tuple[str, nn.Module]]:
    """Stem, stages and downsamples, in order."""
    parts = [('stem', net.stem)]
    for i, stage in enumerate(net.stages, 1):
        parts.append((f'stage {i}', stage))
        if stage.downsample is not None:
            parts.append((f'downsample {i}', stage.downsample))
    return parts


@torch.inference_mode()
def profile_stages(net: FasterViT, images: torch.Tensor, rounds: int = 9) -> list[Part]:
    """Time, FLOPs and peak memory of every part, each run alone on what the part before gave it.

    Args:
        net: in eval mode (or the ``net`` of a deployed copy).
        images: (B, C, H, W).
        rounds: timed calls; the median counts.
    """
    device = images.device.type
    parts, x = [], images
    for name, module in parts_of(net):
        given = x

        def work(module: nn.Module = module, given: torch.Tensor = given) -> torch.Tensor:
            return module(given)

        x = work()
        work()  # what is computed once per size
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            work()
        times = sorted(_seconds(work, device) for _ in range(rounds))
        parts.append(
            Part(
                name,
                times[rounds // 2],
                counter.get_total_flops() / 1e9,
                (peak_memory(work, device) or 0) / 2**20,
            )
        )
    return parts


@torch.inference_mode()
def profile_operations(net: nn.Module, images: torch.Tensor, rounds: int = 3) -> dict[str, float]:
    """Seconds a forward by kind of operation (torch's profiler, its overhead included), 'other' last."""
    cuda = images.is_cuda
    activities = [torch.profiler.ProfilerActivity.CPU] + (
        [torch.profiler.ProfilerActivity.CUDA] if cuda else []
    )
    net(images)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(rounds):
            net(images)
    seconds = dict.fromkeys([*KINDS, 'other'], 0.0)
    for event in profile.key_averages():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a kernel, which its operation counts
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((k for k, words in KINDS.items() if any(w in name for w in words)), 'other')
        seconds[kind] += own / 1e6 / rounds
    return seconds


@torch.inference_mode()
def plain_products(net: FasterViT, images: torch.Tensor) -> list[tuple[str, float]]:
    """GFLOP/s that this device reaches in products and convolutions of the network's own shapes, with nothing around them: the limit."""
    shapes: dict[tuple, Callable[[], object]] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0]
        if isinstance(module, nn.Linear | PointwiseConv):
            tokens, (out, width) = x.numel() // x.shape[-1], module.weight.shape[:2]
            flat = torch.randn(tokens, width, device=x.device, dtype=x.dtype)
            weight = module.weight.reshape(out, width)
            shapes.setdefault(
                (f'{tokens} x {width} -> {out}', 2 * tokens * width * out),
                lambda: nn.functional.linear(flat, weight),
            )
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            given = torch.randn_like(x)
            out = nn.functional.conv2d(given, module.weight, module.bias, module.stride, module.padding)
            flops = 2 * out.numel() * module.weight[0].numel()
            size = f'{"x".join(map(str, module.kernel_size))} on {x.shape[2]}x{x.shape[3]}'
            shapes.setdefault(
                (f'{module.in_channels} -> {module.out_channels}, {size}', flops), lambda: module(given)
            )

    handles = [
        m.register_forward_pre_hook(note)
        for m in net.modules()
        if isinstance(m, nn.Linear | nn.Conv2d | PointwiseConv)
    ]
    net(images)
    for handle in handles:
        handle.remove()
    rates = []
    for (name, flops), work in shapes.items():
        work()
        times = sorted(_seconds(work, images.device.type) for _ in range(5))
        rates.append((name, flops / 1e9 / times[2]))
    return rates


def picture(parts: Sequence[Part], title: str) -> bytes:
    """PNG: time, GFLOPs and memory of every part beside each other."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), constrained_layout=True, sharey=True)
    names = [p.name for p in parts]
    for axis, label, values in zip(
        axes,
        ('time, ms', 'GFLOPs', 'peak memory, MiB'),
        ([1e3 * p.seconds for p in parts], [p.gflops for p in parts], [p.peak_mib for p in parts]),
        strict=True,
    ):
        bars = axis.barh(names, values, color='#4477aa')
        axis.bar_label(bars, fmt='%.0f', padding=2)
        axis.set_xlabel(label)
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    figure.suptitle(title)
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=100)
    plt.close(figure)
    return file.getvalue()


def _seconds(work: Callable[[], object], device: str) -> float:
    if device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def write_stages(
    models: Sequence[str],
    size: tuple[int, tuple[int, int]],
    dtype: str,
    device: str,
    out: Path | None,
    command: str,
) -> str:
    """Profile each model, print the page, and write ``out.md`` with pictures where ``out`` is given.

    Raises:
        UserError: a model that is no FasterViT of this package, or a dtype other than fp32 and bf16.
    """
    batch, hw = size
    where = machine(device)
    text = (
        f'# Where the time goes\n\nWritten by `{command}`: {where["device"]}, {where["threads"]} threads, torch {where["torch"]}, '
        f'commit {where["commit"]}.\n'
    )
    for name in models:
        kind, _, rest = name.partition(':')
        if kind != 'fastervit' or dtype not in ('fp32', 'bf16'):
            raise UserError(
                f'--stages profiles fastervit:ARCH or fastervit:ARCH:deploy in fp32 or bf16, got {name} in {dtype}'
            )
        net, _ = fastervit(rest, Setting(hw, batch, dtype, device))
        deployed = rest.endswith(':deploy')
        low = torch.bfloat16 if dtype == 'bf16' else torch.float32
        images = torch.randn(batch, 3, *hw, device=device)
        inner, given = (
            (net.net, images.to(net.dtype, memory_format=torch.channels_last)) if deployed else (net, images)
        )
        with precision(dtype), torch.autocast(device, low, enabled=dtype == 'bf16' and not deployed):
            parts, kinds, limits = (
                profile_stages(inner, given),
                profile_operations(inner, given),
                plain_products(inner, given),
            )
        text += f'\n## {name}, {batch} x 3 x {hw[0]} x {hw[1]}, {dtype}\n\n'
        text += '| part | ms | GFLOPs | GFLOP/s | peak MiB |\n|---|---|---|---|---|\n'
        whole = Part(
            'all', sum(p.seconds for p in parts), sum(p.gflops for p in parts), max(p.peak_mib for p in parts)
        )
        for p in [*parts, whole]:
            text += f'| {p.name} | {1e3 * p.seconds:.1f} | {p.gflops:.1f} | {p.gflops_per_second:.0f} | {p.peak_mib:.0f} |\n'
        total = sum(kinds.values())
        text += '\n| operations | ms | share |\n|---|---|---|\n'
        text += ''.join(f'| {k} | {1e3 * v:.1f} | {v / total:.0%} |\n' for k, v in kinds.items())
        text += '\nThe limit: the same products and convolutions alone, on tensors at hand.\n\n| channels and tokens | GFLOP/s |\n|---|---|\n'
        text += ''.join(f'| {shape} | {rate:.0f} |\n' for shape, rate in limits)
        if out is not None and find_spec('matplotlib'):
            path = out.with_name(f'{out.name}_{name.replace(":", "-")}.png')
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(picture(parts, f'{name}, {hw[0]}x{hw[1]}, {dtype}'))
            text += f'\n![stages]({path.name})\n'
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out.with_name(f'{out.name}.md')) as temporary:
            temporary.write_text(text)
    return text
