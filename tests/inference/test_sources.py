"""Files behind names, folders and patterns; pixels of image files, or an error of one line."""

import numpy as np
import pytest

from fastervit_backbone.datasets.images import read_image
from fastervit_backbone.inference.sources import find_sources, read_video, video_size
from fastervit_backbone.utils.errors import UserError
from tests.helpers import make_video, odd_images, picture


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
            expected = picture() if name == 'deep_colour.tif' else picture()[..., ::-1]
            assert np.abs(pixels.astype(int) - expected).mean() < 12, name
    assert (np.ptp(read_image(tmp_path / 'deep.png').astype(int), 2) == 0).all()  # gray


def test_pixels_are_those_of_training(tmp_path):
    """The same values as from mmcv's reader, which training uses."""
    mmcv = pytest.importorskip('mmcv')
    for name, good in odd_images(tmp_path).items():
        if good:
            assert np.array_equal(read_image(tmp_path / name), mmcv.imread(str(tmp_path / name))), name


def test_finding(tmp_path):
    images = ('b.jpg', 'a.PNG', 'sub/c.jpeg', 'sub/clip.mp4')
    for name in (*images, 'notes.txt', '.hidden.jpg', '.cache/d.jpg', 'raw'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_sources([tmp_path])
    assert [s.name for s in found] == ['a.PNG', 'b.jpg', 'sub/c.jpeg', 'sub/clip.mp4']
    assert [s.is_video for s in found] == [False, False, False, True]
    assert find_sources([tmp_path / 'b.jpg', tmp_path, f'{tmp_path}/*.jpg'])[0].name == 'b.jpg'
    assert len(find_sources([tmp_path / 'b.jpg', tmp_path, f'{tmp_path}/*.jpg'])) == 4  # each once
    assert [s.name for s in find_sources([f'{tmp_path}/**/*.jpeg'])] == ['c.jpeg']
    assert [s.name for s in find_sources([tmp_path / 'raw'])] == ['raw']  # given as a file
    for missing in ('absent.jpg', 'nothing/*.jpg'):
        with pytest.raises(UserError, match=missing.replace('*', r'\*')):
            find_sources([tmp_path / missing])
    (tmp_path / 'no_images').mkdir()
    with pytest.raises(UserError, match='no images or videos'):
        find_sources([tmp_path / 'no_images'])


def test_videos(tmp_path):
    path = make_video(tmp_path / 'clip.mp4')
    assert video_size(path) == (10, 7)
    frames = list(read_video(path))
    assert len(frames) == 7 and frames[0].shape == (48, 64, 3)
    assert frames[0][24, 10, 2] > 150 > 100 > frames[0][24, 60, 2]  # BGR, and the circle is red
    (tmp_path / 'bad.mp4').write_text('no video')
    with pytest.raises(UserError, match=r'bad\.mp4'):
        video_size(tmp_path / 'bad.mp4')
