"""A local web page: drop an image, see what the model finds, move the threshold, download the result."""

import itertools
import json
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.images import open_image
from ..structures.prediction import Prediction
from ..utils.errors import UserError
from ..utils.files import replacing
from ..visualization.draw import draw
from .predictor import Predictor
from .sources import read_image

os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')  # nothing leaves this machine

#: Least score that is kept, so that the threshold can be moved down without asking the model again.
LEAST = 0.05
#: Uploads that the page keeps, for the slider and the download.
KEPT = 50


class Uploads:
    """The last images that were dropped onto the page, each in a folder of its own with its json: gradio deletes its copies by the hour.

    Args:
        limit: uploads that are kept; an older one goes when another comes.
    """

    def __init__(self, limit: int = KEPT) -> None:
        self.limit = limit
        self._folder = tempfile.TemporaryDirectory(prefix='fastervit_')  # gone with the page
        self._count = itertools.count()
        self._kept: deque[Path] = deque()
        self._lock = threading.Lock()

    def keep(self, path: str | Path) -> Path:
        """Copy an upload; returns the copy."""
        with self._lock:
            folder = Path(self._folder.name) / str(next(self._count))
            folder.mkdir()
            self._kept.append(folder)
            old = self._kept.popleft() if len(self._kept) > self.limit else None
        copy = shutil.copyfile(path, folder / Path(path).name)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        return copy

    def find(self, copy: Path) -> Path:
        """The copy, if it is still there.

        Raises:
            UserError: it made way for others.
        """
        if not copy.is_file():
            raise UserError(
                f'{copy.name} is not kept here any more, after {self.limit} others: drop it again'
            )
        return copy


def check_upload(path: str | Path, megapixels: float) -> None:
    """Raise UserError where a file is no image, or one of more than ``megapixels``; reads no more than its header for that."""
    with open_image(path) as image:
        width, height = image.size
    if width * height > megapixels * 1e6:
        raise UserError(
            f'{Path(path).name} has {width}x{height} pixels, more than the {megapixels:g} megapixels allowed here '
            '(tools/app.py --max-megapixels)'
        )


def build_app(
    predictor: Predictor, *, threshold: float = 0.3, megapixels: float = 30.0, title: str = 'FasterViT'
) -> object:
    """The page.

    Args:
        predictor: made with a threshold of ``LEAST`` or less.
        threshold: where the slider starts.
        megapixels: larger images are refused.
        title: of the page.

    Returns:
        gradio's Blocks, to launch.

    Raises:
        UserError: gradio is not installed.
    """
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        raise UserError('the page needs the package gradio: pip install gradio') from error
    categories, uploads = predictor.categories, Uploads()

    @contextmanager
    def told(path: str | Path) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise gr.Error(
                str(error).replace(str(Path(path).parent) + os.sep, ''), print_exception=False
            ) from error

    def show(path: str | None, least: float) -> tuple:
        if path is None:
            return None, None, None, [], None
        with told(path):
            check_upload(path, megapixels)
            pixels = read_image(path)
            prediction = predictor.predict_pixels([pixels])[0]
        kept = (uploads.keep(path), prediction)
        return kept, *render(kept, least, pixels)

    def render(kept: tuple[Path, Prediction] | None, least: float, pixels: np.ndarray | None = None) -> tuple:
        if kept is None:
            return None, None, [], None
        path, prediction = kept
        with told(path):
            pixels = read_image(uploads.find(path)) if pixels is None else pixels
        chosen = prediction.select(prediction.scores >= least)
        picture = Image.fromarray(np.ascontiguousarray(draw(pixels, chosen, categories)[..., ::-1]))
        return picture, *_tables(chosen, path)

    def _tables(chosen: Prediction, path: Path) -> tuple[str, list[list], str]:
        entries = chosen.to_coco(1, categories)
        names = dict(zip(categories.ids, categories.names, strict=True))
        image = dict(id=1, file_name=path.name, height=chosen.size[0], width=chosen.size[1])
        content = dict(
            images=[image],
            categories=categories.as_coco(),
            annotations=[dict(e, id=i) for i, e in enumerate(entries, 1)],
        )
        target = path.with_suffix('.json')
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content))
        whole = chosen.size[0] * chosen.size[1]
        rows = [
            [
                names[e['category_id']],
                f'{e["score"]:.2f}' if 'score' in e else f'{e["area"] / whole:.1%} of the image',
            ]
            for e in entries
        ]
        said = f'{len(rows)} {"regions" if predictor.semantic else "objects"} in {chosen.size[1]}x{chosen.size[0]} pixels'
        return said, rows, str(target)

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        gr.Markdown(f'# {title}')
        kept = gr.State()
        with gr.Row():
            with gr.Column(scale=1):
                upload = gr.File(label='Image', type='filepath', elem_id='upload')
                slider = gr.Slider(
                    LEAST,
                    1,
                    threshold,
                    step=0.05,
                    label='Threshold',
                    visible=not predictor.semantic,
                    elem_id='threshold',
                )
                count = gr.Markdown(elem_id='count')
                table = gr.Dataframe(
                    headers=['class', 'share' if predictor.semantic else 'score'],
                    interactive=False,
                    elem_id='objects',
                )
                download = gr.DownloadButton('Download JSON', elem_id='download')
            with gr.Column(scale=3):
                picture = gr.Image(
                    show_label=False, type='pil', format='png', interactive=False, elem_id='picture'
                )
        results = [picture, count, table, download]
        upload.change(show, [upload, slider], [kept, *results], api_name=False)
        slider.release(render, [kept, slider], results, api_name=False)
    return app
