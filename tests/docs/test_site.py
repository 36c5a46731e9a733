"""The documentation as a site, and the notebook."""

import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip('mkdocstrings')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / 'reference' / 'index.html').read_text()
    assert 'id="fastervit_backbone.FasterViT.forward"' in reference
    assert 'href="train/"' in (tmp_path / 'index.html').read_text()  # README's docs/train.md
    pages = ''.join(page.read_text() for page in tmp_path.rglob('index.html'))
    assert not re.search(r'<(script|img|link)[^>]*(src|href)="https?:', pages)  # it works offline


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """With few images: every cell as it is committed, and something in every output."""
    nbformat = pytest.importorskip('nbformat')
    pytest.importorskip('nbclient')
    pytest.importorskip('ipykernel')
    from notebook import TUTORIAL, execute, notebook

    committed = nbformat.read(TUTORIAL, as_version=4)
    assert [c.source for c in committed.cells] == [c.source for c in notebook().cells]
    small = notebook(parameters='IMAGES, EPOCHS = 8, 1')
    execute(small, tmp_path)
    for book in (committed, small):
        codes = [cell for cell in book.cells if cell.cell_type == 'code'][1:]
        assert all(cell.outputs for cell in codes)
        assert 'Traceback' not in nbformat.writes(book) and 'error:' not in nbformat.writes(book)
