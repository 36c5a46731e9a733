"""The test pipeline of a config, for pixels instead of files."""

from mmengine.config import Config

from ..datasets.pixel_format import PixelFormat
from ..engine.config.reading import pixel_format
from ..utils.errors import UserError
from .load_model import test_dataset


def pixels_of_config(config: Config) -> PixelFormat:
    """Return how the test pipeline reads images."""
    return pixel_format(test_dataset(config).get('pipeline') or config.get('test_pipeline'))


def exact_resize(pixels: PixelFormat) -> dict[str, str]:
    """Return how images of a classifier are resized; Pillow knows only colors."""
    if pixels.is_color:
        return dict(interpolation='bicubic', backend='pillow')
    return dict(interpolation='bilinear', backend='cv2')


#: Options of LoadImageFromFile that tell of files.
_OF_FILES = ('backend_args', 'bits', 'channels', 'rgb', 'dtype')


def build_test_pipeline(config: Config, size: tuple[int, int] | None) -> list[dict]:
    """Return the test pipeline without loading of files and annotations, resizing to ``size`` unless None."""
    steps = [dict(step) for step in test_dataset(config).get('pipeline') or config.get('test_pipeline') or ()]
    if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
        raise UserError(f'{config.filename}: the test pipeline must start with LoadImageFromFile')
    kept = {k: v for k, v in steps[0].items() if k not in _OF_FILES}
    first = kept | dict(type='LoadImageFromNDArray')
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
        exact = dict(type='Resize', scale=(width, height), **exact_resize(pixels_of_config(config)))
        return [exact, *steps]
    resizes = [step for step in steps if step['type'].endswith('Resize')]
    for step in resizes:
        step['scale'] = (width, height)
        step.pop('scale_factor', None)
    if not resizes:  # before the images are packed
        steps.insert(1, dict(type='Resize', scale=(width, height), keep_ratio=True))
    return steps
