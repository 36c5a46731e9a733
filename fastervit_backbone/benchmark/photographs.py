"""Whole predictions on photographs: what boxes and masks cost depends on what is in them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..datasets.images import read_image
from ..inference.exported_formats import is_exported
from ..inference.exported_info import read_info
from ..inference.predictor import Predictor
from ..inference.sources import find_images, spread
from ..utils.errors import UserError
from .exported import accuracy_of, weight_of
from .setting import Setting

#: Photographs that are predicted, at most.
PHOTOGRAPHS = 12


def photograph_steps(
    models: Sequence[str], folder: str | Path, setting: Setting
) -> tuple[dict[str, Callable[[], object]], int]:
    """Make a step of each model: a prediction of some photographs one by one, from pixels to objects.

    Args:
        models: ``CONFIG.py:CHECKPOINT[:deploy]`` or exported files.
        folder: of the photographs, of which at most :data:`PHOTOGRAPHS` are taken.
        setting: size into which they are fitted, dtype and device.

    Returns:
        name -> step, and the number of photographs.

    Raises:
        UserError: no photographs, or a model that does not predict.
    """
    sources = spread(find_images(folder), PHOTOGRAPHS)
    if not sources:
        raise UserError(f'--images {folder}: no images')
    pixels = [read_image(source.path) for source in sources]
    return {name: _step(name, pixels, setting) for name in models}, len(pixels)


def _step(name: str, pixels: Sequence, setting: Setting) -> Callable[[], object]:
    if is_exported(name):
        info = read_info(Path(name))
        size = info['size']
        if setting.dtype != 'fp32' or setting.device != 'cpu' or info['batch'] != 1:
            raise UserError(f'{name}: --images takes files of one image a call, --dtype fp32, on a cpu')
        if size is not None and tuple(size) != setting.size:
            raise UserError(f'{name} takes {size[0]}x{size[1]}: give it as --size')
        predictor = Predictor(name)
        step = partial(_predict, predictor, pixels)
        step.size_mib, step.accuracy = weight_of(Path(name)), accuracy_of(Path(name))  # type: ignore[attr-defined]
        return step
    before, _, last = name.rpartition(':')
    config, _, checkpoint = (before if last == 'deploy' else name).partition(':')
    if not config.endswith('.py') or not checkpoint:
        raise UserError(f'{name}: --images takes CONFIG.py:CHECKPOINT[:deploy] and exported files')
    if setting.dtype not in ('fp32', 'bf16'):
        raise UserError(f'--dtype {setting.dtype}: --images measures fp32 and bf16')
    options = dict(size=setting.size, deploy=last == 'deploy', amp=setting.low_precision is not None)
    return partial(_predict, Predictor(config, checkpoint, device=setting.device, **options), pixels)


def _predict(predictor: Predictor, pixels: Sequence) -> None:
    for image in pixels:
        predictor([image])
