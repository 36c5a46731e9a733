"""Label maps: values counted, what is no class named, 0 and 255 explained, images in both splits."""

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.datasets.dataset import Dataset, compare
from fastervit_backbone.datasets.validation.label_maps import (
    LabelMapSplit,
    LabelValues,
    check_label_map_split,
)
from tests.helpers import assert_one_line_error
from tests.processes import verb


def write(folder, name, values, image=None):
    for sub in ('images', 'labels'):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    rng = np.random.default_rng(abs(hash(name)) % 1000)
    pixels = rng.integers(0, 255, (*values.shape[:2], 3), np.uint8) if image is None else image
    Image.fromarray(pixels).save(folder / 'images' / f'{name}.jpg')
    Image.fromarray(values.astype(np.uint8)).save(folder / 'labels' / f'{name}.png')


@pytest.fixture
def split(tmp_path):
    rng = np.random.default_rng(0)
    for name in 'abc':
        write(tmp_path, name, rng.integers(0, 3, (20, 30)))
    return LabelMapSplit('train', tmp_path / 'images', tmp_path / 'labels')


def check(split, classes, **options):
    return check_label_map_split(split, LabelValues(classes, **options))


def kinds(findings, level=None):
    return {f.kind for f in findings if level in (None, f.level)}


def test_good(split):
    assert check(split, ['sky', 'road', 'tree']) == []
    assert split.pixels.sum() == 3 * 600 and (split.maps[:3] == 3).all()


def test_each_kind(split, tmp_path):
    classes = ['sky', 'road', 'tree', 'car']
    write(tmp_path, 'value', np.full((20, 30), 9))
    write(tmp_path, 'size', np.zeros((21, 30)), np.zeros((20, 30, 3), np.uint8))
    write(tmp_path, 'twin', np.zeros((20, 30)), np.asarray(Image.open(tmp_path / 'images' / 'a.jpg')))
    (tmp_path / 'images' / 'twin.jpg').write_bytes((tmp_path / 'images' / 'a.jpg').read_bytes())
    write(tmp_path, 'picture', np.zeros((20, 30, 3)))
    write(tmp_path, 'cut', np.zeros((20, 30)))
    (tmp_path / 'images' / 'cut.jpg').write_bytes((tmp_path / 'images' / 'cut.jpg').read_bytes()[:300])
    write(tmp_path, 'torn', np.zeros((20, 30)))
    (tmp_path / 'labels' / 'torn.png').write_bytes(b'x')
    (tmp_path / 'labels' / 'b.png').unlink()
    (tmp_path / 'images' / 'c.jpg').unlink()
    found = {f.kind: f for f in check(split, classes)}
    errors = {
        'value-unknown',
        'label-size',
        'label-picture',
        'image-unreadable',
        'label-unreadable',
        'label-missing',
    }
    assert {k for k, f in found.items() if f.level == 'error'} == errors
    assert {k for k, f in found.items() if f.level == 'warning'} == {
        'label-alone',
        'image-content-twice',
        'class-absent',
    }
    assert found['value-unknown'].examples == ('value.jpg: 9',) and found['class-absent'].examples == ('car',)
    assert 'value-unknown' not in kinds(
        check(LabelMapSplit('t', split.images, split.labels), classes, ignored=(9,))
    )


def test_masks_of_0_and_255(tmp_path):
    write(tmp_path, 'a', np.eye(20) * 255)
    split = LabelMapSplit('train', tmp_path / 'images', tmp_path / 'labels')
    assert kinds(check(split, ['background', 'thing']), 'error') == {'masks-0-255'}


def test_zero_that_means_nothing(tmp_path):
    write(tmp_path, 'a', np.arange(600).reshape(20, 30) % 3)
    split = LabelMapSplit('train', tmp_path / 'images', tmp_path / 'labels')
    assert check(split, ['one', 'two'], reduce_zero_label=True) == []
    split = LabelMapSplit('train', tmp_path / 'images', tmp_path / 'labels')
    assert kinds(check(split, ['one', 'two'])) == {'value-unknown'}


def test_the_tool(split, tmp_path):
    def run(*arguments):
        return verb('check-data', '--train', 'labels', '--images', 'images', *arguments, cwd=tmp_path)

    done = run('--classes', 'sky', 'road', 'tree')
    assert done.returncode == 0 and '0 sky' in done.stdout and 'no problems found' in done.stdout, done.stderr
    assert run('--classes', 'sky', 'road').returncode == 1
    both = run('--val', 'labels', '--classes', 'sky', 'road', 'tree')
    assert both.returncode == 1 and 'images in two splits' in both.stdout
    assert_one_line_error(run('--fix', 'out'), 'these are label maps: write them again')
    assert_one_line_error(
        verb('check-data', '--train', 'labels', '--images', 'absent', cwd=tmp_path), 'no folder at absent'
    )


def test_real_data(real_data):
    """CamVid's void is 11, which is no class unless it is said to be none."""
    root = real_data / 'camvid_mini'
    for part in ('training', 'validation'):
        split = LabelMapSplit(part, root / 'images' / part, root / 'annotations' / part)
        names = [f'c{i}' for i in range(11)]
        assert kinds(check(split, names), 'error') == {'value-unknown'}
        again = LabelMapSplit(part, split.images, split.labels)
        assert not kinds(check(again, names, ignored=(11,)), 'error')


def test_more_than_eight_bits(split, tmp_path):
    assert kinds(check(split, [f'c{i}' for i in range(256)]), 'error') == {'classes-too-many'}
    Image.fromarray(np.full((20, 30), 300, np.uint16)).save(tmp_path / 'labels' / 'a.png')
    for classes, ignored in ((None, ()), (['sky', 'road', 'tree'], (300,))):
        again = LabelMapSplit('train', tmp_path / 'images', tmp_path / 'labels')
        assert 'value-wide' in kinds(check(again, classes, ignored=ignored), 'error')


@pytest.mark.parametrize('orientation', [2, 3, 4, 5, 6, 7, 8])
def test_images_that_exif_turns(split, tmp_path, orientation):
    """mmseg turns the image and not its label map; equal sizes do not show it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(tmp_path / 'images' / 'a.jpg') as image:
        image.save(tmp_path / 'images' / 'a.jpg', exif=exif)
    (finding,) = check(split, ['sky', 'road', 'tree'])
    if orientation < 5:
        assert (finding.kind, finding.level) == ('image-turned', 'warning')
        assert finding.examples == (f'a.jpg: EXIF orientation {orientation}',)
    else:
        assert (
            finding.kind == 'label-size'
            and 'after EXIF turns it: write the image upright' in finding.examples[0]
        )


def test_a_class_that_is_ignored(split):
    (finding,) = check(split, ['sky', 'road', 'tree'], ignored=(2,))
    assert (finding.kind, finding.examples) == ('class-ignored', ("2 is 'tree'",))
    assert 'class-ignored' not in kinds(check(split, ['sky', 'road', 'tree'], ignored=(7,)))


def test_channels_that_nothing_reads(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    for sub in ('images', 'labels'):
        (tmp_path / sub).mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 4), np.uint8)
    for name, extra in (('infrared', 0), ('alpha', 2)):
        path = tmp_path / 'images' / f'{name}.tif'
        tifffile.imwrite(path, pixels, photometric='rgb', extrasamples=[extra])
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / 'labels' / f'{name}.png')
    split = LabelMapSplit('train', tmp_path / 'images', tmp_path / 'labels')
    found = {f.kind: f.examples for f in check(split, ['sky'])}
    assert found['image-channels'] == ('infrared.tif: 4 channels of uint8',)
    differ = compare(Dataset('labels', '', None, dict(train=split)), [split])
    assert differ[0].kind == 'image-channels-differ' and differ[0].level == 'error'
