"""Memory that this machine has free, and memory that a training image takes."""

from pathlib import Path

import psutil
import torch

from ..models.fastervit import FasterViT

#: Control groups, versions 2 and 1: folder, files of limit and use, key of cached files in memory.stat.
_CGROUPS = (
    ('', 'memory.max', 'memory.current', 'inactive_file'),
    ('memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
)


#: Training memory per image over what the backbone keeps for the backward pass: adds neck, heads and buffers.
_MODEL_OVER_BACKBONE = 1.8
#: Training memory per image in mixed precision over that in float32.
_AMP_OVER_FLOAT32 = 0.6
#: Bytes per parameter: weight, gradient, AdamW's two moments, EMA.
_STATE_BYTES = 20
#: Fraction of the free memory that a plan uses.
_USED_FRACTION = 0.7
#: Images per step at most. A CPU is no faster with more.
_MAX_BATCH_GPU, _MAX_BATCH_CPU = 16, 4
#: The same of small images that are classified.
_MAX_CLASSIFIED_GPU, _MAX_CLASSIFIED_CPU = 128, 64


def free_memory(cgroup_root: Path = Path('/sys/fs/cgroup')) -> int:
    """Return the available RAM in bytes, at most what is left of the container's limit."""
    free_bytes = psutil.virtual_memory().available
    for folder, limit_file, used_file, cached_key in _CGROUPS:
        folder = cgroup_root / folder
        try:
            limit_bytes, used_bytes = (int((folder / name).read_text()) for name in (limit_file, used_file))
            statistics = dict(line.split() for line in (folder / 'memory.stat').read_text().splitlines())
        except (OSError, ValueError):  # another version, or no limit ("max")
            continue
        cached_bytes = int(statistics.get(cached_key, 0))  # cached files are dropped on demand
        free_bytes = min(free_bytes, max(0, limit_bytes - used_bytes + cached_bytes))
    return free_bytes


def training_bytes(arch: str, size: tuple[int, int]) -> tuple[float, int]:
    """Find what the backbone keeps for the backward pass of one image, on the meta device.

    Args:
        arch: of FasterViT.
        size: (height, width) of the image.

    Returns:
        bytes of saved activations (float32), and the number of parameters.
    """
    storage_bytes: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # so that no id is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storage_bytes[id(storage)] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.device('meta'):
        backbone = FasterViT(arch=arch).train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            backbone(torch.zeros(1, 3, *size))
    num_parameters = sum(p.numel() for p in backbone.parameters())
    weight_bytes = 4 * num_parameters
    return float(sum(storage_bytes.values()) - weight_bytes), num_parameters


def choose_batch(
    arch: str, size: tuple[int, int], min_batch: int, *, amp: bool, kind: str, enlarged: float, processes: int
) -> tuple[int, str]:
    """Double ``min_batch`` while free memory is estimated to hold the batch; returns it and the reason.

    ``kind``: of the data; ``enlarged``: the largest images of a batch over ``size``.
    """
    use_gpu = torch.cuda.is_available()
    device, max_batch = ('GPU', _MAX_BATCH_GPU) if use_gpu else ('CPU', _MAX_BATCH_CPU)
    if kind == 'folders':
        max_batch = _MAX_CLASSIFIED_GPU if use_gpu else _MAX_CLASSIFIED_CPU
    free_bytes = torch.cuda.mem_get_info()[0] if use_gpu else free_memory() // processes
    backbone_bytes, num_parameters = training_bytes(arch, size)
    precision_ratio = _AMP_OVER_FLOAT32 if use_gpu and amp else 1.0
    image_bytes = backbone_bytes * enlarged**2 * _MODEL_OVER_BACKBONE * precision_ratio
    batch_bytes = max(0.0, _USED_FRACTION * free_bytes - _STATE_BYTES * num_parameters)
    batch = min_batch
    while batch * 2 <= min(batch_bytes / image_bytes, max_batch):
        batch *= 2
    estimate = f'about {image_bytes / 2**30:.2g} GiB per image (estimated)'
    return batch, f'batch {batch}: {estimate}, {free_bytes / 2**30:.3g} GiB free on the {device}'
