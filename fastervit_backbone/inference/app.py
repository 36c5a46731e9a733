"""A local web page: drop an image, see what the model finds, move the threshold, download the result."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ..checkpoint_io import replacing
from ..data.images import open_image
from ..errors import UserError
from .draw import draw
from .prediction import Prediction
from .predictor import Predictor
from .sources import read_image

os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')  # nothing leaves this machine

#: Least score that is kept, so that the threshold can be moved down without asking the model again.
LEAST = 0.05


def check_upload(path: str | Path, megapixels: float) -> None:
    """Raise UserError where a file is no image, or one of more than ``megapixels``; reads no more than its header for that."""
    with open_image(path) as image:
        width, height = image.size
    if width * height > megapixels * 1e6:
        raise UserError(
            f'{Path(path).name} has {width}x{height} pixels, more than the {megapixels:g} megapixels allowed here '
            '(tools/app.py --max-megapixels)'
        )


def build_app(predictor: Predictor, *, threshold: float = 0.3, megapixels: float = 30.0, title: str = 'FasterViT') -> object:
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
    categories = predictor.categories
    folder = tempfile.TemporaryDirectory(prefix='fastervit_')  # of the jsons, one an upload; gone with the page

    def show(path: str | None, least: float) -> tuple:
        if path is None:
            return None, None, None, [], None
        try:
            check_upload(path, megapixels)
            pixels = read_image(path)
            prediction = predictor.predict_pixels([pixels])[0]
        except UserError as error:
            raise gr.Error(str(error).replace(str(Path(path).parent) + os.sep, ''), print_exception=False) from error
        kept = (path, prediction)
        return kept, *render(kept, least, pixels)

    def render(kept: tuple[str, Prediction] | None, least: float, pixels: np.ndarray | None = None) -> tuple:
        if kept is None:
            return None, None, [], None
        path, prediction = kept
        pixels = read_image(path) if pixels is None else pixels
        chosen = prediction.select(prediction.scores >= least)
        picture = Image.fromarray(np.ascontiguousarray(draw(pixels, chosen, categories)[..., ::-1]))
        return picture, *_tables(chosen, path)

    def _tables(chosen: Prediction, path: str) -> tuple[str, list[list], str]:
        entries = chosen.to_coco(1, categories)
        names = dict(zip(categories.ids, categories.names, strict=True))
        image = dict(id=1, file_name=Path(path).name, height=chosen.size[0], width=chosen.size[1])
        content = dict(images=[image], categories=categories.as_coco(), annotations=[dict(e, id=i) for i, e in enumerate(entries, 1)])
        target = Path(folder.name) / hashlib.sha256(path.encode()).hexdigest()[:16] / f'{Path(path).stem}.json'
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content))
        whole = chosen.size[0] * chosen.size[1]
        rows = [
            [names[e['category_id']], f'{e["score"]:.2f}' if 'score' in e else f'{e["area"] / whole:.1%} of the image'] for e in entries
        ]
        said = f'{len(rows)} {"regions" if predictor.semantic else "objects"} in {chosen.size[1]}x{chosen.size[0]} pixels'
        return said, rows, str(target)

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        gr.Markdown(f'# {title}')
        kept = gr.State()
        with gr.Row():
            with gr.Column(scale=1):
                upload = gr.File(label='Image', type='filepath', elem_id='upload')
                slider = gr.Slider(LEAST, 1, threshold, step=0.05, label='Threshold', visible=not predictor.semantic, elem_id='threshold')
                count = gr.Markdown(elem_id='count')
                table = gr.Dataframe(headers=['class', 'share' if predictor.semantic else 'score'], interactive=False, elem_id='objects')
                download = gr.DownloadButton('Download JSON', elem_id='download')
            with gr.Column(scale=3):
                picture = gr.Image(show_label=False, type='pil', format='png', interactive=False, elem_id='picture')
        results = [picture, count, table, download]
        upload.change(show, [upload, slider], [kept, *results], api_name=False)
        slider.release(render, [kept, slider], results, api_name=False)
    return app
