"""Templates of the package: values are escaped, missing ones raise, and the files are part of a wheel."""

import pytest

pytest.importorskip('jinja2')

from jinja2 import UndefinedError

from fastervit_backbone.utils.html import data_uri, render
from tests.helpers import ROOT

TEMPLATES = sorted(p.name for p in (ROOT / 'fastervit_backbone' / 'templates').iterdir())


def test_values_are_escaped():
    page = render('report.html.j2', title='<script>&', sections=[])
    assert page.count('&lt;script&gt;&amp;') == 2 and '<script' not in page


@pytest.mark.parametrize('name', TEMPLATES)
def test_missing_values_raise(name):
    assert name.endswith('.j2')  # pyproject.toml adds these to the wheel
    with pytest.raises(UndefinedError):
        render(name)


def test_data_uri():
    assert data_uri(b'\x00\xff', 'jpeg') == 'data:image/jpeg;base64,AP8='
