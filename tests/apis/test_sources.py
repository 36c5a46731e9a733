"""Names, folders and patterns into files; files into pixels, or into one line that says what is wrong."""

import cv2
import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.apis.sources import find_sources, read_image, read_video, video_size
from fastervit_backbone.utils.errors import UserError


def picture(size=(40, 60)):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([x * 4, y * 6, (x + y) * 2], 2).astype(np.uint8)


def odd_images(folder):
    """Every kind of image file that people have: name -> whether it can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    rgb = Image.fromarray(picture())
    rgb.save(folder / 'plain.jpg')
    rgb.convert('L').save(folder / 'grey.png')
    rgb.convert('RGBA').save(folder / 'alpha.png')
    rgb.convert('P').save(folder / 'palette.png')
    rgb.convert('1').save(folder / 'bilevel.png')
    rgb.convert('CMYK').save(folder / 'cmyk.jpg')
    rgb.save(folder / 'animated.webp')
    Image.fromarray(picture()[..., 0].astype(np.uint16) * 256).save(folder / 'deep.png')
    cv2.imwrite(str(folder / 'deep_colour.tif'), picture().astype(np.uint16) * 256)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    rgb.save(folder / 'turned.jpg', exif=exif)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    noise.save(folder / 'whole.jpg')
    content = (folder / 'whole.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(content[: len(content) // 2])
    (folder / 'words.png').write_text('not an image')
    (folder / 'empty.jpg').write_bytes(b'')
    bad = {'cut.jpg', 'words.png', 'empty.jpg'}
    return {p.name: p.name not in bad for p in folder.iterdir()}


def test_odd_images(tmp_path):
    for name, good in odd_images(tmp_path).items():
        if not good:
            with pytest.raises(UserError, match=name):
                read_image(tmp_path / name)
            continue
        pixels = read_image(tmp_path / name)
        size = (200, 200) if name == 'whole.jpg' else (60, 40) if name == 'turned.jpg' else (40, 60)
        assert pixels.shape == (*size, 3) and pixels.dtype == np.uint8, name
        if name in ('plain.jpg', 'alpha.png', 'cmyk.jpg', 'deep_colour.tif', 'animated.webp'):
            wanted = picture() if name == 'deep_colour.tif' else picture()[..., ::-1]
            assert np.abs(pixels.astype(int) - wanted).mean() < 12, name
    assert (np.ptp(read_image(tmp_path / 'deep.png').astype(int), 2) == 0).all()  # grey


def test_pixels_are_those_of_training(tmp_path):
    """mmcv's reader, which the models were trained with, sees the same numbers."""
    mmcv = pytest.importorskip('mmcv')
    for name, good in odd_images(tmp_path).items():
        if good:
            assert np.array_equal(read_image(tmp_path / name), mmcv.imread(str(tmp_path / name))), name


def test_finding(tmp_path):
    for name in (
        'b.jpg',
        'a.PNG',
        'sub/c.jpeg',
        'sub/clip.mp4',
        'notes.txt',
        '.hidden.jpg',
        '.cache/d.jpg',
        'raw',
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_sources([tmp_path])
    assert [s.name for s in found] == ['a.PNG', 'b.jpg', 'sub/c.jpeg', 'sub/clip.mp4']
    assert [s.is_video for s in found] == [False, False, False, True]
    assert find_sources([tmp_path / 'b.jpg', tmp_path, f'{tmp_path}/*.jpg'])[0].name == 'b.jpg'
    assert len(find_sources([tmp_path / 'b.jpg', tmp_path, f'{tmp_path}/*.jpg'])) == 4  # each once
    assert [s.name for s in find_sources([f'{tmp_path}/**/*.jpeg'])] == ['c.jpeg']
    assert [s.name for s in find_sources([tmp_path / 'raw'])] == ['raw']  # named by itself
    for missing in ('absent.jpg', 'nothing/*.jpg'):
        with pytest.raises(UserError, match=missing.replace('*', r'\*')):
            find_sources([tmp_path / missing])
    (tmp_path / 'bare').mkdir()
    with pytest.raises(UserError, match='no image or video'):
        find_sources([tmp_path / 'bare'])


def make_video(path, frames=7, size=(48, 64)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, size[::-1])
    for i in range(frames):
        frame = np.full((*size, 3), 40, np.uint8)
        cv2.circle(frame, (10 + 6 * i, 24), 8, (60, 60, 220), -1)
        writer.write(frame)
    writer.release()
    return path


def test_videos(tmp_path):
    path = make_video(tmp_path / 'clip.mp4')
    assert video_size(path) == (10, 7)
    frames = list(read_video(path))
    assert len(frames) == 7 and frames[0].shape == (48, 64, 3)
    assert frames[0][24, 10, 2] > 150 > 100 > frames[0][24, 60, 2]  # BGR, and the circle is red
    (tmp_path / 'bad.mp4').write_text('no video')
    with pytest.raises(UserError, match=r'bad\.mp4'):
        video_size(tmp_path / 'bad.mp4')
