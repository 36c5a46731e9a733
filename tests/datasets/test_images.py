"""The one decoder: files of every kind against Pillow and by hand; paths, arrays and Pillow are the same."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from fastervit_backbone.datasets.image_files import images_below
from fastervit_backbone.datasets.image_headers import open_image, orientation, upright_size
from fastervit_backbone.datasets.images import as_pixels, bits_of, read_image, read_picture
from fastervit_backbone.datasets.pixel_format import COLOR, PixelFormat
from fastervit_backbone.datasets.validation.image_files import look
from fastervit_backbone.utils.errors import UserError

#: Blocks of one color: JPEG keeps them.
PIXELS = np.kron(np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
DEEP = np.random.default_rng(1).integers(0, 4096, (20, 30), np.uint16)
FORMATS = {'a.jpg': dict(quality=95), 'a.png': {}, 'a.tif': {}, 'a.webp': dict(lossless=True)}


def with_orientation(path, turn, **options):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(PIXELS).save(path, exif=exif, **options)


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize('turn', range(1, 9))
def test_orientation_in_every_format(turn, name, tmp_path):
    path = tmp_path / name
    with_orientation(path, turn, **FORMATS[name])
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    found = read_image(path)
    assert found.shape == expected.shape and np.abs(found[..., ::-1].astype(int) - expected).max() <= 2
    with open_image(path) as image:
        assert upright_size(image) == found.shape[1::-1] and orientation(image) == turn
    with Image.open(path) as fresh, Image.open(path) as loaded:
        loaded.load()
        assert (as_pixels(fresh) == found).all() and (as_pixels(loaded) == found).all()
    assert look(path).size == look(path, 'size').size == found.shape[1::-1]


def test_orientation_in_xmp(tmp_path):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        b'</rdf:RDF></x:xmpmeta>'
    )
    Image.fromarray(PIXELS).save(tmp_path / 'a.jpg', xmp=xmp, quality=95)
    assert read_image(tmp_path / 'a.jpg').shape == (64, 40, 3)
    assert look(tmp_path / 'a.jpg').size == (40, 64)


MODES = {
    '.png': ('L', '1', 'P', 'LA', 'RGBA'),
    '.tif': ('L', '1', 'P', 'LA', 'RGBA', 'CMYK'),
    '.jpg': ('L', 'CMYK'),
}


@pytest.mark.parametrize(
    ('suffix', 'mode'), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes]
)
def test_modes(suffix, mode, tmp_path):
    path = tmp_path / f'a{suffix}'
    Image.fromarray(PIXELS).convert(mode).save(path)
    found = read_image(path)
    with Image.open(path) as image:
        assert np.abs(as_pixels(image).astype(int) - found).max() <= 1
    if mode == 'L':
        assert np.abs(found[..., 0].astype(int) - np.asarray(Image.fromarray(PIXELS).convert('L'))).max() <= 3


def test_sixteen_bits(tmp_path):
    """A 12-bit camera writes 4095 as white; whatever the road, 12 bits become 8."""
    Image.fromarray(DEEP).save(tmp_path / 'gray.png')
    Image.fromarray(DEEP).save(tmp_path / 'gray.tif')
    color = np.stack([DEEP, DEEP // 2, DEEP // 4], -1)
    cv2.imwrite(str(tmp_path / 'color.png'), color)
    cv2.imwrite(str(tmp_path / 'color.tif'), color)
    for name, expected in (('gray', np.repeat(DEEP[..., None], 3, 2)), ('color', color)):
        for path in (tmp_path / f'{name}.png', tmp_path / f'{name}.tif'):
            assert bits_of(path) == look(path).bits == 12
            assert (read_image(path, PixelFormat(12)) == expected >> 4).all()
            assert np.abs(read_image(path).astype(int) - (expected >> 8)).max() <= 1
            with Image.open(path) as image:
                assert (as_pixels(image, PixelFormat(12)) == expected >> 4).all()
            assert (as_pixels(expected[..., ::-1].copy(), PixelFormat(12)) == expected >> 4).all()
            assert read_picture(path).getpixel((3, 4)) == tuple(int(v) for v in (expected >> 4)[4, 3, ::-1])
    assert 'image-dark' in look(tmp_path / 'gray.png').rules()
    Image.fromarray(np.full((4, 5), 65535, np.uint16)).save(tmp_path / 'white.png')
    assert read_image(tmp_path / 'white.png').min() == 255 and look(tmp_path / 'white.png').rules() == []
    with Image.open(tmp_path / 'white.png') as image:
        image.load()
        assert as_pixels(image).min() == 255
    Image.fromarray(np.full((4, 5), 200, np.uint8)).save(tmp_path / 'plain.png')
    assert (
        bits_of(tmp_path / 'plain.png') == 8
        and read_image(tmp_path / 'plain.png', PixelFormat(12)).max() == 200
    )


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (lambda p: Image.fromarray(DEEP.astype(np.float32)).save(p), 'its pixels are floating-point numbers'),
        (lambda p: Image.fromarray(DEEP.astype(np.int32)).save(p), 'its pixels are 32-bit integers'),
        (
            lambda p: Image.fromarray(PIXELS).save(
                p, save_all=True, append_images=[Image.fromarray(PIXELS)] * 4
            ),
            'it has 5 pages: write a file for each',
        ),
    ],
)
def test_what_is_not_read_says_so_on_every_road(make, reason, tmp_path):
    path = tmp_path / 'a.tif'
    make(path)
    with pytest.raises(UserError, match=reason):
        read_image(path)
    with pytest.raises(UserError, match=reason), Image.open(path) as image:
        as_pixels(image)
    file = look(path, pixels=COLOR)
    assert file.problem == 'image-unsupported' and reason in file.example('image-unsupported', 'a.tif')
    if 'pages' in reason:
        assert look(path).problem == 'image-unsupported'
    else:  # for a model of one channel
        assert look(path).rules() == ['image-channels'] and '1 channel of' in look(path).channels


def test_reduced_copies_are_no_pages(tmp_path):
    """As in whole slides: tag 254 says that a page is a reduced copy of another."""
    path = tmp_path / 'slide.tif'
    small = Image.fromarray(PIXELS[::2, ::2])
    small.encoderinfo = dict(tiffinfo={254: 1})
    Image.fromarray(PIXELS).save(path, save_all=True, append_images=[small])
    assert read_image(path).shape == PIXELS.shape


def test_more_pixels_than_pillow_allows(tmp_path):
    """Pillow refuses 179 megapixels; OpenCV, which training reads with, does not."""
    Image.new('1', (20000, 10000)).save(tmp_path / 'large.png')
    before = Image.MAX_IMAGE_PIXELS
    assert look(tmp_path / 'large.png', 'size').size == (20000, 10000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_files_below_links(tmp_path):
    (tmp_path / 'real' / 'deep').mkdir(parents=True)
    (tmp_path / 'data').mkdir()
    for path in ('real/a.png', 'real/deep/b.PNG', 'real/._a.png', 'real/c.txt'):
        Image.fromarray(PIXELS).save(tmp_path / path, format='PNG')
    os.symlink(tmp_path / 'real', tmp_path / 'data' / 'link')
    os.symlink(tmp_path / 'data', tmp_path / 'real' / 'circle')
    found = [path.relative_to(tmp_path / 'data').as_posix() for path in images_below(tmp_path / 'data')]
    assert found == ['link/a.png', 'link/deep/b.PNG']


def test_what_is_no_image():
    for given in (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), np.uint8), 7):
        with pytest.raises(UserError, match=r'must be a file, a Pillow image or an array \(H, W, 3\)'):
            as_pixels(given)


def test_sixteen_bits_that_opencv_reads_wrongly(tmp_path):
    """Channels one after the other, which it mixes up; and 0 for white, of which it makes a negative."""
    tifffile = pytest.importorskip('tifffile')
    color = np.stack([DEEP, DEEP // 2, DEEP // 4])
    tifffile.imwrite(tmp_path / 'planar.tif', color, photometric='rgb', planarconfig='separate')
    tifffile.imwrite(tmp_path / 'inverted.tif', DEEP, photometric='miniswhite')
    for name, reason in (('planar', 'lie one channel after the other'), ('inverted', 'have 0 for white')):
        with pytest.raises(UserError, match=f'its 16 bits {reason}'):
            read_image(tmp_path / f'{name}.tif')
        assert look(tmp_path / f'{name}.tif').problem == 'image-unsupported'


def test_a_pillow_image_that_was_loaded(tmp_path):
    """Pillow has only 8 bits of colors then, perhaps changed ones: the file is asked for."""
    path = tmp_path / 'color.png'
    cv2.imwrite(str(path), np.repeat(DEEP[..., None], 3, 2))
    with Image.open(path) as image:
        image.thumbnail((15, 10))
        with pytest.raises(
            UserError, match='was loaded by Pillow, which keeps 8 of its 16 bits: give the file'
        ):
            as_pixels(image, PixelFormat(12))
        assert as_pixels(image).shape == (10, 15, 3)


def test_more_pixels_than_pillow_allows_while_loading(tmp_path, monkeypatch):
    """Of TIFF, Pillow looks at its limit again."""
    Image.fromarray(PIXELS).save(tmp_path / 'a.tif')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert read_image(tmp_path / 'a.tif').shape == PIXELS.shape and look(tmp_path / 'a.tif').problem == ''
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize('exif', [b'Exif\0\0II*\0', b'nonsense'])
@pytest.mark.parametrize('suffix', ['.png', '.webp'])
def test_broken_exif_is_none(exif, suffix, tmp_path):
    path = tmp_path / f'a{suffix}'
    Image.fromarray(PIXELS).save(path, exif=exif, **({} if suffix == '.png' else dict(lossless=True)))
    assert (read_image(path)[..., ::-1] == PIXELS).all() and look(path).problem == ''


def test_alpha_of_tiff_multiplies_nothing(tmp_path):
    alpha = np.full((*PIXELS.shape[:2], 1), 60, np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], 2)).save(tmp_path / 'a.tif')
    assert (read_image(tmp_path / 'a.tif')[..., ::-1] == PIXELS).all()
    with Image.open(tmp_path / 'a.tif') as image:
        assert (as_pixels(image)[..., ::-1] == PIXELS).all()
