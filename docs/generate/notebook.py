"""Write docs/tutorial.ipynb and run it: shapes, training, evaluation, report; five minutes on two cores.

Example: python docs/generate/notebook.py
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from fastervit_backbone.utils.files import replacing
from fastervit_cli.console import run_cli
from fastervit_cli.options import parse_strictly

TUTORIAL = Path(__file__).resolve().parent.parent / 'tutorial.ipynb'
#: Lines of libraries that say nothing about the run.
NOISE = 'Using env variable|Could not import OneDL|Failed to search registry'
#: Text and code by turns.
CELLS = (
    """\
# From a data set to a report

Install the package (`make setup` in a checkout, or `pip install "fastervit-backbone[mm]"`), start Jupyter in
any folder and run the cells: they write into `work_dirs/`. `python docs/generate/notebook.py` wrote and ran
this notebook.""",
    """\
import os
from pathlib import Path

IMAGES, EPOCHS = 700, 3
os.environ['SHAPES_ROOT'] = str(Path('work_dirs/demo/data').resolve())  # where the demo's config looks""",
    """\
## A data set

Circles, squares and triangles with COCO annotations. `fastervit check-data` reports what is wrong with a data
set; use it on your own.""",
    """\
!fastervit make-shapes work_dirs/demo/data --train {IMAGES} --val {max(2, IMAGES // 14)}
!fastervit check-data work_dirs/demo/data 2>&1 | cat""",
    """\
## Training

Cascade Mask R-CNN with the `nano` backbone. `fastervit train` takes a config's name or your own file.""",
    """\
!fastervit train demo/cascade_shapes --work-dir work_dirs/demo/cascade --seed 0 \\
    --cfg-options train_cfg.max_epochs={EPOCHS} 2>&1 | cat""",
    """\
!fastervit plot-logs work_dirs/demo/cascade --out work_dirs/demo/curves.png

from PIL import Image

Image.open('work_dirs/demo/curves.png').convert('RGB').reduce(2)""",
    """\
## Evaluation

The same metrics as pycocotools', and pictures of ground truth (left) and prediction (right).""",
    """\
!fastervit test demo/cascade_shapes work_dirs/demo/cascade --show-dir work_dirs/demo/pictures 2>&1 | tail -2

Image.open('work_dirs/demo/pictures/overview.png').reduce(2)""",
    """\
## Prediction in Python""",
    """\
from fastervit_backbone.inference import Predictor

predictor = Predictor('demo/cascade_shapes', 'work_dirs/demo/cascade', threshold=0.5)
image = 'work_dirs/demo/data/images/val/000001.png'
(prediction,) = predictor([image])
for label, score, box in zip(prediction.labels, prediction.scores, prediction.boxes, strict=True):
    print(predictor.categories.names[label], f'{score:.2f}', box.round().tolist())
predictor.draw(image, prediction)""",
    """\
## A report

Metrics by class, what is confused with what, and the worst mistakes, as one page,
`work_dirs/demo/report/report.html`.""",
    """\
!fastervit predict demo/cascade_shapes work_dirs/demo/cascade work_dirs/demo/data/images/val \\
    --threshold 0 --no-draw --out work_dirs/demo/predictions --overwrite 2>&1 | tail -1
!fastervit analyze-results work_dirs/demo/predictions work_dirs/demo/data/annotations/instances_val.json \\
    --images work_dirs/demo/data/images/val --out work_dirs/demo/report
!cat work_dirs/demo/report/classes.csv""",
)


def notebook(parameters: str | None = None) -> nbformat.NotebookNode:
    """Build the notebook without outputs; ``parameters`` replaces the line of IMAGES and EPOCHS."""
    book = nbformat.v4.new_notebook(
        metadata={'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}}
    )
    for i, source in enumerate(CELLS):
        code = not source.startswith('#')
        if parameters is not None:
            source = re.sub('^IMAGES, EPOCHS = .*', parameters, source, flags=re.MULTILINE)
        new = nbformat.v4.new_code_cell if code else nbformat.v4.new_markdown_cell
        book.cells.append(new(source, id=f'cell-{i}'))
    return book


def execute(book: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in ``folder``; outputs go into the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    client = NotebookClient(
        book, timeout=1800, record_timing=False, resources={'metadata': {'path': str(folder)}}
    )
    # a terminal without colors and moving progress bars
    client.execute(env=os.environ | {'PATH': path, 'TERM': 'dumb', 'NO_COLOR': '1'})


def tidy(book: nbformat.NotebookNode) -> None:
    """Remove what libraries say about themselves, and all but one format of a picture."""
    for cell in book.cells:
        outputs = []
        for output in cell.get('outputs', []):
            if 'image/jpeg' in output.get('data', {}):
                output.data.pop('image/png', None)
            if output.output_type == 'stream':
                output.text = ''.join(x for x in output.text.splitlines(True) if not re.search(NOISE, x))
            if output.get('name') != 'stderr' and output.get('text', 'picture'):
                outputs.append(output)
        if cell.cell_type == 'code':
            cell.outputs = outputs


def main() -> None:
    """Run the notebook in a temporary folder and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse_strictly(parser)
    book = notebook()
    with tempfile.TemporaryDirectory() as folder:
        execute(book, Path(folder))
        tidy(book)
        text = nbformat.writes(book).replace(os.path.realpath(folder), '.').replace(folder, '.')
    with replacing(TUTORIAL) as temporary:
        temporary.write_text(text + '\n')


if __name__ == '__main__':
    run_cli(main)
