"""Images of other channels than colors: read from every kind of file, measured, shown; against numpy."""

from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from fastervit_backbone.datasets.channel_statistics import channel_statistics
from fastervit_backbone.datasets.images import as_pixels, image_size, read_image, read_picture
from fastervit_backbone.datasets.multichannel import channels_of, read_channels
from fastervit_backbone.datasets.pixel_format import COLOR, PixelFormat, picture_of, resize_pixels
from fastervit_backbone.datasets.validation.image_files import look
from fastervit_backbone.utils.errors import UserError

H, W = 20, 31


def numbers(channels, dtype='uint16', seed=0):
    rng = np.random.default_rng(seed)
    high = 255 if dtype == 'uint8' else 4000
    return (rng.integers(0, high, (H, W, channels)) - (dtype[0] in 'if') * 7).astype(dtype)


def tiff(array, **options):
    options = dict(photometric='minisblack', planarconfig='contig') | options
    return lambda path: tifffile.imwrite(path, array, **options)


@pytest.mark.parametrize('dtype', ['uint8', 'int16', 'uint16', 'float32', 'float64'])
@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 12])
def test_npy_and_tiff_of_any_layout(channels, dtype, tmp_path):
    array = numbers(channels, dtype)
    flat = array[..., 0] if channels == 1 else array
    np.save(tmp_path / 'a.npy', flat)
    tiff(flat, planarconfig='contig' if channels > 1 else None)(tmp_path / 'contig.tif')
    tiff(flat, compression='zlib', planarconfig=None if channels == 1 else 'contig')(tmp_path / 'zip.tif')
    files = ['a.npy', 'contig.tif', 'zip.tif']
    if channels > 1:
        planes = np.ascontiguousarray(np.moveaxis(array, -1, 0))
        tiff(planes, planarconfig='separate')(tmp_path / 'planar.tif')
        tiff(planes, planarconfig=None, metadata=None)(tmp_path / 'pages.tif')
        tiff(array, bigtiff=True, byteorder='>')(tmp_path / 'big.tif')
        files += ['planar.tif', 'pages.tif', 'big.tif']
    for name in files:
        found = channels_of(tmp_path / name)
        kind = 'float' if dtype.startswith('float') else dtype
        assert (found.size, found.count, found.dtype, found.problem) == ((W, H), channels, kind, ''), name
        pixels = read_channels(tmp_path / name, channels)
        assert pixels.dtype == np.float32 and pixels.shape == array.shape, name
        assert (pixels == array.astype(np.float32)).all(), name
        assert image_size(tmp_path / name) == (W, H)
        assert (as_pixels(flat, PixelFormat(channels=channels)) == pixels).all()


def test_png_and_jpeg_with_all_their_channels(tmp_path):
    deep, shallow = numbers(4), numbers(4, 'uint8')
    Image.fromarray(shallow).save(tmp_path / 'rgba.png')
    Image.fromarray(shallow[..., :2], 'LA').save(tmp_path / 'la.png')
    cv2.imwrite(str(tmp_path / 'deep.png'), deep[..., [2, 1, 0, 3]])
    cv2.imwrite(str(tmp_path / 'deep3.png'), deep[..., [2, 1, 0]])
    Image.fromarray(deep[..., 0]).save(tmp_path / 'gray.png')
    Image.fromarray(shallow[..., 0]).save(tmp_path / 'gray.jpg', quality=100)
    for name, expected in {
        'rgba.png': shallow,
        'la.png': shallow[..., :2],
        'deep.png': deep,
        'deep3.png': deep[..., :3],
        'gray.png': deep[..., :1],
    }.items():
        assert (read_channels(tmp_path / name) == expected).all(), name
        found = channels_of(tmp_path / name)
        assert found.colors and found.dtype == expected.dtype.name, name
    assert np.abs(read_channels(tmp_path / 'gray.jpg', 1) - shallow[..., :1]).max() <= 3


def test_an_orientation_that_is_none_is_upright(tmp_path):
    tiff(numbers(3, 'uint8'), photometric='rgb', extratags=[(274, 'H', 1, 9, True)])(tmp_path / 'a.tif')
    assert channels_of(tmp_path / 'a.tif').size == (W, H) and look(tmp_path / 'a.tif').rules() == []


@pytest.mark.parametrize('turn', [1, 3, 6, 8])
def test_tiff_is_turned_upright(turn, tmp_path):
    array = numbers(5)
    tiff(array, extratags=[(274, 'H', 1, turn, True)])(tmp_path / 'a.tif')
    upright = {1: array, 3: array[::-1, ::-1], 6: np.rot90(array, 3), 8: np.rot90(array)}[turn]
    assert (read_channels(tmp_path / 'a.tif') == upright).all()
    assert image_size(tmp_path / 'a.tif') == upright.shape[1::-1]
    assert look(tmp_path / 'a.tif').orientation == turn  # label maps have to be upright, too
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(numbers(3, 'uint8')).save(tmp_path / 'a.png', exif=exif)
    pixels = PixelFormat(channels=3)
    assert look(tmp_path / 'a.png', 'size', pixels).orientation == turn
    with Image.open(tmp_path / 'a.png') as image:
        assert (as_pixels(image, pixels) == read_image(tmp_path / 'a.png', pixels)).all()


@pytest.mark.parametrize(
    ('name', 'make', 'message'),
    [
        ('a.npy', lambda p: np.save(p, numbers(40).transpose(2, 0, 1)), 'channels must be its last axis'),
        ('a.npy', lambda p: np.save(p, np.zeros(7)), r'expected \(H, W\) or'),
        ('a.npy', lambda p: p.write_bytes(b'\x93NUMPY'), 'cannot be read as an array'),
        ('a.npy', lambda p: np.save(p, np.array([dict()] * 4).reshape(2, 2)), 'cannot be read as an array'),
        ('a.npy', lambda p: np.save(p, np.full((H, W, 5), np.nan)), '3100 of 3100 numbers are NaN'),
        ('a.npy', lambda p: np.save(p, np.full((H, W, 5), 1e300)), 'numbers are NaN or infinite'),
        ('a.npy', lambda p: np.save(p, numbers(4)), 'has 4 channels, but 5 are expected'),
        ('a.tif', lambda p: p.write_bytes(b'II*\0\x08\0\0\0'), 'cannot be read as an image'),
        (
            'a.tif',
            tiff(numbers(70).transpose(2, 0, 1), planarconfig=None, metadata=None),
            '64 pages of 31x20',
        ),
        ('a.png', lambda p: Image.fromarray(numbers(1, 'uint8')[..., 0]).convert('P').save(p), 'a palette'),
        ('b/a.tif', lambda p: None, 'No such file|no such file|does not exist'),
    ],
)
def test_what_is_not_read_says_so(name, make, message, tmp_path):
    make(tmp_path / name)
    with pytest.raises(UserError, match=message) as error:
        read_image(tmp_path / name, PixelFormat(channels=5))
    assert '\n' not in str(error.value)


def test_a_truncated_tiff_is_unreadable(tmp_path):
    tiff(numbers(5), compression='zlib')(tmp_path / 'a.tif')
    content = (tmp_path / 'a.tif').read_bytes()
    (tmp_path / 'a.tif').write_bytes(content[: len(content) // 2])
    assert look(tmp_path / 'a.tif').problem == 'image-unreadable'


def test_a_config_of_other_channels_is_told_so(tmp_path):
    tiff(numbers(5))(tmp_path / 'five.tif')
    Image.fromarray(numbers(3, 'uint8')).save(tmp_path / 'rgb.png')
    assert look(tmp_path / 'five.tif', 'size', PixelFormat(channels=5)).rules() == []
    assert look(tmp_path / 'rgb.png', 'size', PixelFormat(channels=3)).rules() == []
    for name, pixels, reason in (
        ('five.tif', COLOR, r'it has 5 channels of uint16, for LoadImageFromFile(channels=5)'),
        ('five.tif', PixelFormat(channels=4), 'it has 5 channels of uint16, and the config says channels=4'),
        ('rgb.png', PixelFormat(channels=4), 'it has 3 channels of uint8, and the config says channels=4'),
    ):
        file = look(tmp_path / name, 'size', pixels)
        assert file.problem == 'image-unsupported' and reason in file.reason


@pytest.mark.parametrize(
    'options',
    [
        dict(channels=0),
        dict(channels=65),
        dict(channels=2.0),
        dict(bits=9),
        dict(bits=12, channels=3),
        dict(rgb=(0, 1, 2)),
        dict(channels=2, rgb=(0, 1, 2)),
        dict(channels=5, rgb=(0, 1)),
        dict(dtype='uint8'),
        dict(dtype='float32', channels=1),
    ],
)
def test_formats_that_exclude_themselves(options):
    with pytest.raises(ValueError, match='|'.join(options)):
        PixelFormat(**options)


def test_a_format_is_what_it_writes():
    for pixels in (
        COLOR,
        PixelFormat(12),
        PixelFormat(channels=7),
        PixelFormat(channels=7, rgb=(6, 0, 0), dtype='float'),
    ):
        assert PixelFormat.of(pixels.options()) == pixels


def test_statistics_are_those_of_all_pixels(tmp_path):
    arrays = [numbers(4, 'float32', seed)[: H - 3 * seed] + 1e6 for seed in range(4)]
    for i, array in enumerate(arrays):
        array[..., 3] = 5.0  # a channel that is the same everywhere
        np.save(tmp_path / f'{i}.npy', array)
    found = channel_statistics(sorted(tmp_path.iterdir()), 4)
    pixels = np.concatenate([a.reshape(-1, 4) for a in arrays]).astype(np.float64)
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.std[:3], pixels.std(0)[:3], rtol=1e-4)
    assert found.std[3] == 1.0 and found.images == 4


def test_pictures_show_chosen_channels(tmp_path):
    array = np.zeros((10, 10, 5), np.float32)
    array[..., 3] = np.linspace(-0.5, 0.5, 100).reshape(10, 10)
    shown = picture_of(array, (3, 0, 0))
    assert shown.dtype == np.uint8 and shown.shape == (10, 10, 3)
    assert shown[0, 0, 2] == 0 and shown[-1, -1, 2] == 255 and not shown[..., :2].any()
    steps = np.diff(shown[..., 2].reshape(-1).astype(int))
    assert (steps >= 0).all() and steps.max() <= 4
    for channels in (1, 2, 3, 4):
        assert picture_of(numbers(channels)).shape == (H, W, 3)
    gray = picture_of(numbers(1))
    assert (gray[..., 0] == gray[..., 2]).all()
    np.save(tmp_path / 'a.npy', array)
    assert (
        np.asarray(read_picture(tmp_path / 'a.npy', PixelFormat(channels=5, rgb=(3, 0, 0))))
        == shown[..., ::-1]
    ).all()
    assert read_picture(tmp_path / 'a.npy').size == (10, 10)


@pytest.mark.parametrize('channels', [1, 3, 5, 9])
def test_reducing_keeps_the_axis(channels):
    pixels = numbers(channels, 'float32')
    small = resize_pixels(np.repeat(np.repeat(pixels, 2, 0), 2, 1), (H, W))
    np.testing.assert_allclose(small, pixels, rtol=1e-5)


def test_compression_that_needs_a_package(tmp_path):
    """Told as such, or read where the package is installed; never called damaged, which --fix removes."""
    array = numbers(1, 'float32')[..., 0]
    Image.fromarray(array).save(tmp_path / 'a.tif', compression='tiff_lzw')
    if find_spec('imagecodecs') is not None:
        assert (read_channels(tmp_path / 'a.tif')[..., 0] == array).all()
        return
    with pytest.raises(UserError, match=r"imagecodecs.*: pip install 'fastervit_backbone\[tiff\]' adds it"):
        read_channels(tmp_path / 'a.tif')
    file = look(tmp_path / 'a.tif')
    assert file.problem == 'image-unsupported' and 'pip install' in file.reason


def test_one_bit_and_palettes_and_many_samples(tmp_path):
    Image.fromarray(numbers(1, 'uint8')[..., 0] > 99).save(tmp_path / 'one.png')
    assert channels_of(tmp_path / 'one.png').dtype == 'bool'
    assert set(np.unique(read_channels(tmp_path / 'one.png', 1, 'bool'))) == {0.0, 1.0}
    Image.fromarray(numbers(1, 'uint8')[..., 0]).convert('P').save(tmp_path / 'p.png')
    assert look(tmp_path / 'p.png').rules() == []
    assert 'a palette' in look(tmp_path / 'p.png', 'size', PixelFormat(channels=3)).reason
    tiff(numbers(70))(tmp_path / 'many.tif')
    assert 'it has 70 channels: at most 64' in look(tmp_path / 'many.tif').reason
    np.save(tmp_path / 'c.npy', numbers(2).astype(np.complex64))
    assert 'holds complex64' in look(tmp_path / 'c.npy').reason
