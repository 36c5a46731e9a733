"""Names of classes in any script are drawn, on pictures and sheets."""

import numpy as np
import pytest

pytest.importorskip('supervision')

from fastervit_backbone.structures.prediction import Categories, Prediction
from fastervit_backbone.visualization.contact_sheet import save_grid
from fastervit_backbone.visualization.draw import draw
from fastervit_backbone.visualization.text import font

#: Chinese, Japanese, Korean, Thai, Hindi, Arabic, Hebrew, Cyrillic, Greek, Vietnamese.
WORDS = ('细胞', 'ひらカタ', '한국어', 'ไทย', 'हिन्दी', 'عربي', 'עברית', 'Кот', 'γάτα', 'chữ viết')
PIXELS = np.zeros((300, 700, 3), np.uint8)


def test_the_font_has_every_script():
    missing = font(20).getmask('\uffff').getbbox(), bytes(font(20).getmask('\uffff'))
    for word in WORDS:
        for letter in word.replace(' ', ''):
            assert bytes(font(20).getmask(letter)) != missing[1], (word, letter)


def drawn(names, kind):
    categories = Categories(tuple(names), tuple(range(len(names))))
    if kind == 'boxes':
        boxes = np.array([[100, 100, 300, 250]], np.float32)
        prediction = Prediction((300, 700), boxes, np.ones(1, np.float32), np.array([0]))
    elif kind == 'label map':
        prediction = Prediction.of_label_map(np.zeros((300, 700), np.uint8), len(names))
    else:
        prediction = Prediction.of_classes((300, 700), np.array([1.0, 0.0], np.float32))
    return draw(PIXELS, prediction, categories, scores=False)


@pytest.mark.parametrize('kind', ['boxes', 'label map', 'classes'])
def test_different_words_are_different_pictures(kind):
    """OpenCV would write a question mark for each letter."""
    pictures = {word: drawn((word, 'other'), kind).tobytes() for word in ('细胞', '生物', '??', 'cell')}
    assert len(set(pictures.values())) == 4


def test_the_line_above_a_cell_of_a_sheet(tmp_path):
    from PIL import Image

    contents = set()
    for word in ('细胞.jpg', '生物.jpg'):
        save_grid([(word, Image.new('RGB', (420, 100)))], tmp_path / 'sheet.png')
        contents.add((tmp_path / 'sheet.png').read_bytes())
    assert len(contents) == 2
