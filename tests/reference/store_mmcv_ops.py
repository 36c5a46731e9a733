"""Store what mmcv's compiled operators return, for machines without them.

Example, from the repository's root, with compiled mmcv: python -m tests.reference.store_mmcv_ops
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

ROI_ALIGN = [f'roi_align_{a}_{s}' for a in ('aligned', 'legacy') for s in (0, 2)]
CASES = [
    *ROI_ALIGN,
    'nms_0',
    'nms_1',
    'softnms_0',
    'softnms_1',
    'softnms_2',
    'modulated_deform_conv',
]


def random(*shape: int, seed: int) -> torch.Tensor:
    """Uniform numbers in [0, 1) that do not depend on torch's version."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))


def make_rois(count: int = 30) -> torch.Tensor:
    """Regions (count, 5) of two images, partly outside of their maps of 20x30 at scale 1/4."""
    corners, sizes = random(count, 2, seed=1) * 100, random(count, 2, seed=2) * 80
    index = (random(count, 1, seed=3) > 0.5).float()
    return torch.cat((index, corners, corners + sizes), 1)


def make_inputs(name: str) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Maps, regions and options of RoIAlign."""
    ratio = int(name[-1]) if name[-1].isdigit() else 0
    options = dict(aligned_height=7, aligned_width=5, spatial_scale=0.25, sampling_ratio=ratio, pool_mode=1)
    return random(2, 8, 20, 30, seed=0) - 0.5, make_rois(), options | dict(aligned='legacy' not in name)


def run_case(operators: ModuleType, name: str) -> dict[str, torch.Tensor]:
    """Results of a case, forward and backward, from any module with mmcv's operators."""
    if name.startswith('roi_align'):
        maps, rois, options = make_inputs(name)
        output, grad, empty = torch.zeros(len(rois), 8, 7, 5), torch.zeros_like(maps), torch.zeros(0)
        operators.roi_align_forward(maps, rois, output, empty, empty, **options)
        operators.roi_align_backward(random(*output.shape, seed=4), rois, empty, empty, grad, **options)
        return dict(output=output, grad=grad)
    if 'nms' in name:
        boxes, scores, offset = make_rois(200)[:, 1:], random(200, seed=5), int(name[-1]) % 2
        if name.startswith('nms'):
            return dict(kept=operators.nms(boxes, scores, iou_threshold=0.4, offset=offset))
        dets = torch.zeros(200, 5)
        options = dict(iou_threshold=0.4, sigma=0.5, min_score=0.05, method=int(name[-1]), offset=offset)
        kept = operators.softnms(boxes, scores, dets, **options)
        return dict(kept=kept, dets=dets[: len(kept)])
    return _deformable(operators)


def _deformable(operators: ModuleType) -> dict[str, torch.Tensor]:
    x, weight, bias = random(2, 4, 9, 11, seed=0), random(6, 4, 3, 3, seed=1) - 0.5, random(6, seed=2)
    offset, mask = random(2, 18, 9, 11, seed=3) * 4 - 2, random(2, 9, 9, 11, seed=4)
    geometry = dict(
        kernel_h=3, kernel_w=3, stride_h=1, stride_w=1, pad_h=1, pad_w=1, dilation_h=1, dilation_w=1
    )
    geometry |= dict(group=1, deformable_group=1, with_bias=True)
    output, buffers = torch.zeros(2, 6, 9, 11), [torch.zeros(0), torch.zeros(0)]
    operators.modulated_deform_conv_forward(
        x, weight, bias, buffers[0], offset, mask, output, buffers[1], **geometry
    )
    grads = [torch.zeros_like(t) for t in (x, weight, bias, offset, mask)]
    operators.modulated_deform_conv_backward(
        *(x, weight, bias, buffers[0], offset, mask, buffers[1]),
        *grads,
        random(*output.shape, seed=5),
        **geometry,
    )
    names = ('grad_input', 'grad_weight', 'grad_bias', 'grad_offset', 'grad_mask')
    return dict(output=output) | dict(zip(names, grads, strict=True))


if __name__ == '__main__':
    from mmcv import _ext

    results = {f'{case}/{key}': v.numpy() for case in CASES for key, v in run_case(_ext, case).items()}
    np.savez_compressed(Path(__file__).with_name('mmcv_ops.npz'), **results)
