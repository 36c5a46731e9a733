"""Local web page to try a model: drop an image, see predictions, move the threshold, download the JSON."""

import itertools
import json
import os
import shutil
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..datasets.images import image_size, read_image
from ..inference.predictor import Predictor
from ..structures.prediction import Categories, Prediction
from ..utils.errors import UserError
from ..utils.files import replacing

if TYPE_CHECKING:
    import gradio

os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')  # the page sends nothing to other machines

#: Lowest score the predictor keeps, so that the threshold can be lowered without running the model again.
MIN_SCORE = 0.05
#: Number of uploads the page keeps for the slider and the download.
MAX_UPLOADS = 50


class Uploads:
    """Copies of the latest images dropped onto the page.

    Each copy has its own folder, which also holds the JSON of its predictions. The page needs its own copies
    because gradio deletes the uploaded files after an hour.

    Args:
        limit: number of uploads to keep; a new upload replaces the oldest one.
    """

    def __init__(self, limit: int = MAX_UPLOADS) -> None:
        self.limit = limit
        self._root = tempfile.TemporaryDirectory(prefix='fastervit_')  # deleted with the page
        self._count = itertools.count()
        self._folders: deque[Path] = deque()
        self._lock = threading.Lock()

    def keep(self, path: str | Path) -> Path:
        """Copy an uploaded file and return the path of the copy."""
        with self._lock:
            folder = Path(self._root.name) / str(next(self._count))
            folder.mkdir()
            self._folders.append(folder)
            oldest = self._folders.popleft() if len(self._folders) > self.limit else None
        copy = shutil.copyfile(path, folder / Path(path).name)
        if oldest is not None:
            shutil.rmtree(oldest, ignore_errors=True)
        return copy

    def find(self, copy: Path) -> Path:
        """Return ``copy`` if it still exists.

        Raises:
            UserError: newer uploads have replaced it.
        """
        if not copy.is_file():
            raise UserError(f'{copy.name} was replaced by the last {self.limit} uploads: upload it again')
        return copy


def check_upload(path: str | Path, megapixels: float) -> None:
    """Check that a file is an image of at most ``megapixels``, reading only its header.

    Raises:
        UserError: the file is not an image, or has more pixels.
    """
    width, height = image_size(path)
    if width * height > megapixels * 1e6:
        raise UserError(
            f'{Path(path).name} has {width}x{height} pixels, more than the limit of '
            f'{megapixels:g} megapixels (--max-megapixels)'
        )


def build_app(
    predictor: Predictor, *, threshold: float = 0.3, megapixels: float = 30.0, title: str = 'FasterViT'
) -> 'gradio.Blocks':
    """Build the web page.

    Args:
        predictor: the model, with a threshold of at most ``MIN_SCORE``.
        threshold: initial value of the slider.
        megapixels: larger images are rejected.
        title: title of the page.

    Returns:
        gradio's Blocks, ready to launch.

    Raises:
        UserError: gradio is not installed.
    """
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        raise UserError('the page needs the package gradio: pip install gradio') from error
    semantic, page = predictor.semantic, _Page(predictor, megapixels)
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        gr.Markdown(f'# {title}')
        state = gr.State()
        with gr.Row():
            with gr.Column(scale=1):
                upload_box = gr.File(label='Image', type='filepath', elem_id='upload')
                slider = gr.Slider(
                    MIN_SCORE,
                    1,
                    threshold,
                    step=0.05,
                    label='Threshold',
                    visible=not semantic,
                    elem_id='threshold',
                )
                count = gr.Markdown(elem_id='count')
                headers = ['class', 'share' if semantic else 'score']
                table = gr.Dataframe(headers=headers, interactive=False, elem_id='objects')
                download = gr.DownloadButton('Download JSON', elem_id='download')
            with gr.Column(scale=3):
                picture_box = gr.Image(
                    show_label=False, type='pil', format='png', interactive=False, elem_id='picture'
                )
        results = [picture_box, count, table, download]
        upload_box.change(page.predict, [upload_box, slider], [state, *results], api_visibility='private')
        # also by keyboard and in the box of numbers; of quick changes only the last one counts
        slider.change(
            page.render, [state, slider], results, trigger_mode='always_last', api_visibility='private'
        )
    return app


class _Page:
    """What the page does with an upload."""

    def __init__(self, predictor: Predictor, megapixels: float) -> None:
        self.predictor, self.megapixels, self.uploads = predictor, megapixels, Uploads()

    def predict(self, path: str | None, least_score: float) -> tuple:
        """Predict on an upload; return what the page keeps of it, and its contents."""
        if path is None:
            return None, None, None, [], None
        try:
            check_upload(path, self.megapixels)
            pixels = read_image(path, self.predictor.pixels)
            prediction = self.predictor.predict_pixels([pixels])[0]
        except UserError as error:
            return None, *_problem(error, path)
        upload = (self.uploads.keep(path), prediction)
        return upload, *self.render(upload, least_score, pixels)

    def render(
        self, upload: tuple[Path, Prediction] | None, least_score: float, pixels: np.ndarray | None = None
    ) -> tuple:
        """Return picture, summary, table and file of a prediction's objects of at least this score."""
        if upload is None:
            return None, None, [], None
        path, prediction = upload
        predictor, categories = self.predictor, self.predictor.categories
        try:
            pixels = read_image(self.uploads.find(path), predictor.pixels) if pixels is None else pixels
        except UserError as error:
            return _problem(error, path)
        shown = prediction.select(prediction.scores >= least_score)
        picture = Image.fromarray(np.ascontiguousarray(predictor.picture(pixels, shown)[..., ::-1]))
        entries = shown.to_coco(1, categories)
        height, width = shown.size
        things = 'regions' if predictor.semantic else 'classes' if predictor.classification else 'objects'
        above = '' if predictor.semantic else f', score at least {least_score:g}'
        summary = f'{len(entries)} {things} in {width}x{height} pixels{above}'
        image = dict(id=1, file_name=path.name, height=height, width=width)
        info = {} if predictor.semantic else dict(threshold=least_score)
        json_path = _write_json(path.with_suffix('.json'), info, image, entries, categories)
        return picture, summary, _table_rows(entries, height * width, categories), str(json_path)


def _problem(error: UserError, path: str | Path) -> tuple:
    """Put an error into the page in place of results, without the temporary folder of the upload."""
    message = str(error).replace(str(Path(path).parent) + os.sep, '')
    return None, f'**Error:** {message}', [], None


def _table_rows(entries: list[dict], pixels: int, categories: Categories) -> list[list[str]]:
    """One row per object (class, score) or region (class, share of the image's ``pixels``)."""
    names = dict(zip(categories.ids, categories.names, strict=True))
    rows = []
    for entry in entries:
        value = f'{entry["score"]:.2f}' if 'score' in entry else f'{entry["area"] / pixels:.1%} of the image'
        rows.append([names[entry['category_id']], value])
    return rows


def _write_json(path: Path, info: dict, image: dict, entries: list[dict], categories: Categories) -> Path:
    """Write the predictions of one image as a COCO json."""
    content = dict(
        info=info,
        images=[image],
        categories=categories.as_coco(),
        annotations=[dict(entry, id=i) for i, entry in enumerate(entries, 1)],
    )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content))
    return path
