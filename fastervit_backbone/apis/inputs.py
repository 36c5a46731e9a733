"""What a predictor does to an image before the model: decode it, apply the config's test pipeline."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image, ImageOps

from ..utils.errors import UserError
from .load_model import test_dataset
from .sources import read_image

#: What can be given as an image: a file, or pixels in RGB.
ImageLike = str | Path | np.ndarray | Image.Image


def as_bgr(image: ImageLike) -> np.ndarray:
    """Return the pixels (H, W, 3), uint8, BGR.

    Raises:
        UserError: neither a readable file, nor a Pillow image, nor RGB pixels.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        image = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    if not isinstance(image, np.ndarray):
        given = type(image).__name__
    elif image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
        return np.ascontiguousarray(image[..., ::-1])
    else:
        given = f'{image.dtype} {image.shape}'
    raise UserError(
        f'an image must be a file, a Pillow image or an array (H, W, 3), uint8, RGB, but got {given}'
    )


def build_test_pipeline(config: Config, size: tuple[int, int] | None) -> list[dict]:
    """Return the test pipeline without loading of files and annotations, resizing to ``size`` unless None."""
    steps = [dict(step) for step in test_dataset(config).get('pipeline') or config.get('test_pipeline') or ()]
    if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
        raise UserError(f'{config.filename}: the test pipeline must start with LoadImageFromFile')
    first = {k: v for k, v in steps[0].items() if k != 'backend_args'} | dict(type='LoadImageFromNDArray')
    is_classifier = config.get('default_scope') == 'mmpretrain'  # which has no LoadImageFromNDArray
    steps = [first] * (not is_classifier) + [
        step for step in steps[1:] if not step['type'].endswith('Annotations')
    ]
    if size is None:
        return steps
    height, width = size
    if min(size) < 32:
        raise UserError(f'size {height}x{width}: must be at least 32x32')
    if is_classifier:  # exactly this size, instead of resizing and cropping
        steps = [step for step in steps if not step['type'].endswith(('Resize', 'ResizeEdge', 'Crop'))]
        exact = dict(type='Resize', scale=(width, height), backend='pillow', interpolation='bicubic')
        return [exact, *steps]
    resizes = [step for step in steps if step['type'].endswith('Resize')]
    for step in resizes:
        step['scale'] = (width, height)
        step.pop('scale_factor', None)
    if not resizes:  # before the images are packed
        steps.insert(1, dict(type='Resize', scale=(width, height), keep_ratio=True))
    return steps
