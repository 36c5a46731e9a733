import numpy as np

from fastervit_backbone.visualization.palette import colorize_label_map, palette


def test_palette():
    colors = palette(['Background', *'abcdefgh'])
    assert colors.dtype == np.uint8 and colors[0].tolist() == [110, 110, 110]
    assert colors[1].tolist() == [0xE6, 0x9F, 0x00]
    assert colors[8].tolist() == [
        round(0xE6 * 0.55),
        round(0x9F * 0.55),
        0,
    ]  # darker from the eighth class on
    assert len(np.unique(palette([f'class {i}' for i in range(35)]), axis=0)) == 35


def test_ignored_pixels_are_black():
    colored = colorize_label_map(np.array([[0, 1, 255]], np.uint8), ['a', 'b'])
    assert colored.tolist() == [[*palette(['a', 'b']).tolist(), [0, 0, 0]]]
