"""The table of exported formats."""

from dataclasses import fields
from pathlib import Path

from fastervit_backbone.inference.exported_formats import FORMATS, is_exported, weights_of
from fastervit_backbone.options import ExportOptions


def test_the_option_has_a_choice_for_every_row():
    choices = next(item.metadata['choices'] for item in fields(ExportOptions) if item.name == 'format')
    assert list(choices) == list(FORMATS)


def test_names():
    assert is_exported('a/model.onnx') and is_exported(Path('m.xml')) and not is_exported('m.pth')
    assert weights_of(Path('a/m.xml')) == Path('a/m.bin')
    assert weights_of(Path('a/m.b.onnx')) == Path('a/m.b.onnx.data')
