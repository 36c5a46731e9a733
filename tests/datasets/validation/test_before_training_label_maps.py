from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.datasets.validation import before_training
from fastervit_backbone.datasets.validation.before_training import check_label_maps
from fastervit_backbone.utils.errors import UserError

CLASSES = ('sky', 'road', 'tree')


@pytest.fixture
def pairs(tmp_path):
    """Three good pairs; the labels are 0, 1, 2 and 255."""
    made = []
    for i in range(3):
        image, labels = tmp_path / f'{i}.jpg', tmp_path / f'{i}.png'
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(image)
        Image.fromarray(np.tile(np.array([0, 1, 2, 255], np.uint8), (30, 10))).save(labels)
        made.append((str(image), str(labels)))
    return made


def write(pair, array, mode=None):
    Image.fromarray(np.asarray(array), mode).save(pair[1])


def test_good_maps(pairs):
    assert check_label_maps(pairs, CLASSES) is None


def test_an_image_without_a_label_map(pairs, tmp_path):
    (tmp_path / '1.png').unlink()
    with pytest.raises(
        UserError,
        match=r'images without a label map .* \(1 of 3, the first is .*1\.png\): .*seg_map_path',
    ):
        check_label_maps(pairs, CLASSES)


def test_another_size(pairs):
    write(pairs[2], np.zeros((40, 30), np.uint8))
    with pytest.raises(UserError, match=r'label maps of another size .* \(2\.png: 30x40, image 40x30\)'):
        check_label_maps(pairs, CLASSES)


def test_an_image_on_its_side(pairs, tmp_path):
    """EXIF orientation 6: stored 30x40, loaded 40x30."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(pairs[0][0], exif=exif)
    assert check_label_maps(pairs, CLASSES) is None


@pytest.mark.parametrize(
    ('value', 'arguments', 'told'),
    [
        (
            3,
            {},
            r'no class \(1\.png: 3\): the 3 classes have 0 to 2: set ignore_index in a LabelM',
        ),
        (11, dict(label_map={11: 255}), None),
        (
            4,
            dict(reduce_zero_label=True),
            r'1\.png: 4\): the 3 classes have 1 to 3 \(0 is ignored\)',
        ),
        (3, dict(reduce_zero_label=True), None),
        (254, {}, r'1\.png: 254\)'),
    ],
)
def test_values(pairs, value, arguments, told):
    write(pairs[1], np.full((30, 40), value, np.uint8))
    if told is None:
        assert check_label_maps(pairs, CLASSES, **arguments) is None
    else:
        with pytest.raises(UserError, match=told):
            check_label_maps(pairs, CLASSES, **arguments)


def test_sixteen_bits_do_not_wrap(pairs):
    """mmseg reads 257 as 1."""
    write(pairs[1], np.full((30, 40), 257, np.uint16))
    with pytest.raises(UserError, match=r'1\.png: 257\)'):
        check_label_maps(pairs, CLASSES)


def test_masks_of_0_and_255(pairs):
    for pair in pairs:
        write(pair, np.tile(np.array([0, 255], np.uint8), (30, 20)))
    with pytest.raises(
        UserError,
        match=r"hold only 0 and 255, which means .ignored.: .* \('object' would never be learned\)",
    ):
        check_label_maps(pairs, ('background', 'object'))


def test_a_colour_picture_and_a_broken_file(pairs, tmp_path):
    write(pairs[1], np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(
        UserError,
        match=r'label maps that are color pictures: write one channel .* \(1\.png: 3 channels of uint8\)',
    ):
        check_label_maps(pairs, CLASSES)
    whole = (tmp_path / '0.png').read_bytes()
    for content in (b'nothing', whole[: len(whole) - 30], whole[:20]):
        (tmp_path / '1.png').write_bytes(content)
        with pytest.raises(UserError, match=r'label maps that cannot be read as images \(1\.png\)'):
            check_label_maps(pairs, CLASSES)


def test_a_broken_image(pairs, tmp_path):
    """Pillow opens a cut off PNG, and calls what it finds a SyntaxError."""
    for damage in (lambda whole: whole[:60], lambda whole: whole[:40] + b'x' + whole[41:]):
        path = Path(pairs[1][0])
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(
            UserError,
            match=rf'files that cannot be read as images \(\S+/{path.name}\): write or unpack it again',
        ):
            check_label_maps(pairs, CLASSES)


def test_palette_pictures_are_numbers(pairs):
    picture = Image.fromarray(np.full((30, 40), 2, np.uint8), 'P')
    picture.putpalette([200, 0, 0] * 256)
    picture.save(pairs[1][1])
    assert check_label_maps(pairs, CLASSES) is None


def test_many_are_sampled_and_it_is_said(pairs, monkeypatch):
    monkeypatch.setattr(before_training, 'READ_AT_MOST', 2)
    assert check_label_maps(pairs, CLASSES) == 'label maps: 2 of 3 were checked and are valid'


def test_more_classes_than_eight_bits_hold(pairs):
    """mmseg reads label maps as uint8: 256 would be read as 0."""
    names = [f'c{i}' for i in range(256)]
    assert check_label_maps(pairs, names[:255]) is None
    with pytest.raises(UserError, match=r'label maps have 8 bits \(256 classes, 255 fit: join some\)'):
        check_label_maps(pairs, names)
    with pytest.raises(UserError, match=r'255 classes, 254 fit besides the ignored label 0'):
        check_label_maps(pairs, names[:255], reduce_zero_label=True)
