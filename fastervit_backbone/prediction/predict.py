"""Predict on files with one call: pictures, label maps and one json; behind ``fastervit predict``."""

from pathlib import Path
from typing import Any

from ..checkpoints.model_folder import is_published
from ..inference.exported_formats import is_exported
from ..inference.predictor import Predictor
from ..inference.sources import choose_sources
from ..options import PredictOptions, resolve
from ..options.field import Place
from ..utils.errors import UserError
from .processes import Share
from .report import PredictionReport
from .run import PredictionRun


def predict(source: Place | PredictOptions | None = None, /, **options: Any) -> PredictionReport:
    """Predict on images, folders and videos, and write the results; a second call resumes the first.

    Args:
        source: config of the model, an exported file, a published folder, or all options.
        options: of :class:`~fastervit_backbone.options.PredictOptions`: ``checkpoint``, ``sources``,
            ``out``, ...

    Returns:
        the report; in other processes than the first, that of their part.

    Raises:
        TypeError: an option that does not exist.
        UserError: bad input, or results of other options in ``out``.
    """
    o = resolve(PredictOptions, source, options)
    if not o.out:
        raise UserError('--out DIR is required: where do the results go?')
    if o.engine is None and o.actors is not None:
        raise UserError(f'--actors {o.actors} is for --engine ray')
    if o.engine is None:
        return predict_here(o)
    if o.engine != 'ray':
        raise UserError(f'--engine {o.engine}: it can be ray, or left out')
    if o.actors is not None and o.actors < 1:
        raise UserError(f'--actors {o.actors}: must be at least 1')
    try:
        from .ray_actors import predict_with_ray
    except ModuleNotFoundError as error:
        if error.name != 'ray':
            raise
        raise UserError("--engine ray needs ray: pip install 'fastervit-backbone[ray]'") from error
    return predict_with_ray(predict_here, o, 2 if o.actors is None else o.actors)


def predict_here(o: PredictOptions) -> PredictionReport:
    """Predict this process's part, which is all of it unless it has a rank; see :func:`predict`."""
    checkpoint = o.checkpoint
    sources = [o.sources] if isinstance(o.sources, str | Path) else list(o.sources)
    if checkpoint is not None and (is_exported(o.config) or is_published(o.config)):
        sources.insert(0, checkpoint)  # the model is whole: that was an image
        checkpoint = None
    found, image_ids = choose_sources(sources, o.annotations, exclude=o.out)
    shared: dict[str, Any] = dict(
        threshold=o.threshold,
        classes=o.classes,
        size=o.size,
        tile=o.tile,
        overlap=o.overlap,
        amp=o.amp,
        options=o.options,
    )
    share = Share.of_environment()
    predictor = Predictor(
        o.config, checkpoint, device=share.device(o.device), deploy=o.deploy, compile=o.compile, **shared
    )
    settings = dict(shared, pictures=o.draw)
    if o.annotations is not None:
        settings['annotations'] = str(o.annotations)
    run = PredictionRun(
        predictor,
        o.out,
        settings,
        batch=predictor.batch if o.batch is None else o.batch,
        pictures=o.draw,
        overwrite=o.overwrite,
        image_ids=image_ids,
        save=o.save,
        share=share,
    )
    return run.run(found)
