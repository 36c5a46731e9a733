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
