"""Other channels than colors, by a user's commands: finetune, test, predict, tiles, publish and export."""

import re
import shutil

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from timm.models import adapt_input_conv

from fastervit_backbone import FasterViT
from fastervit_backbone.check_data import check_data
from fastervit_backbone.checkpoints.io import NANO, read_checkpoint, resolve_checkpoint
from fastervit_backbone.checkpoints.stem import adapt_stem
from fastervit_backbone.datasets.image_files import images_below
from fastervit_backbone.datasets.images import read_image
from fastervit_backbone.datasets.multichannel import read_channels
from fastervit_backbone.datasets.pixel_format import PixelFormat
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.datasets.validation.image_files import look
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.export.run import export
from fastervit_backbone.finetune import finetune
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.prediction.predict import predict
from fastervit_backbone.publish import publish
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.trust import trusting_pickles

SIZE = (64, 96)


def in_channels(rgb, kind):
    """The same photograph as channels: a gray one of floats; two of 8 bits; five of 16; twelve of floats."""
    rgb = rgb.astype(np.float32)
    if kind == 'float1':
        return rgb.mean(-1) / 900 - 0.1
    if kind == 'rgba':
        return np.concatenate([rgb, rgb[..., 1:2]], -1).astype(np.uint8)
    if kind == 'uint5':
        return (np.concatenate([rgb, rgb[..., :2] + 3], -1) * 40).astype(np.uint16)
    return np.concatenate([rgb * k + 100 for k in (1, 0.5, -3, 20)], -1)


def converted(root, kind):
    """Make a data set of shapes whose images are of other channels."""
    data = make_shapes(root, train=4, val=2, size=SIZE, seed=3)
    for path in sorted((data / 'images').rglob('*.png')):
        array = in_channels(np.asarray(Image.open(path).convert('RGB')), kind)
        path.unlink()
        if kind == 'npy12':
            np.save(path.with_suffix('.npy'), array)
        elif kind == 'rgba':
            Image.fromarray(array).save(path)
        else:
            planar = None if array.ndim == 2 else 'contig'
            tifffile.imwrite(path.with_suffix('.tif'), array, photometric='minisblack', planarconfig=planar)
    suffix = dict(npy12='.npy', rgba='.png').get(kind, '.tif')
    for path in (data / 'annotations').glob('*.json'):
        path.write_text(path.read_text().replace('.png', suffix))
    return data


def options_of(data, model, folder):
    common = dict(arch='nano', model=model, epochs=1, batch=2, size=SIZE, work_dir=folder / 'run')
    splits = ('train', 'val')
    if model == 'fpn':
        labels = dict(train=data / 'labels/train', val=data / 'labels/val', classes=['a', 'b', 'c', 'd'])
        return common | labels | dict(images=[data / 'images' / s for s in splits])
    if model == 'classifier':
        for split in splits:
            for i, path in enumerate(sorted((data / 'images' / split).iterdir())):
                target = folder / 'classes' / split / 'ab'[i % 2] / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        return common | dict(data=folder / 'classes')
    shutil.rmtree(data / 'labels')
    return common | dict(data=data)


@pytest.mark.parametrize(
    ('model', 'kind', 'channels', 'format'),
    [
        ('cascade', 'uint5', 5, 'onnx'),
        ('fpn', 'float1', 1, 'openvino'),
        ('classifier', 'npy12', 12, 'onnx'),
        pytest.param('cascade', 'float1', 1, 'torch-export', marks=pytest.mark.long),
        pytest.param('fpn', 'npy12', 12, 'onnx', marks=pytest.mark.long),
        pytest.param('rtmdet-ins', 'rgba', 4, 'onnx', marks=pytest.mark.long),
        pytest.param('dino', 'uint5', 5, 'onnx', marks=pytest.mark.long),
    ],
)
def test_every_road_reads_the_same_channels(model, kind, channels, format, tmp_path, capsys):
    data = converted(tmp_path / 'data', kind)
    more = dict(channels='all') if kind == 'rgba' else {}
    more |= dict(rgb=(channels - 1, 0, 1)) if channels > 2 else {}
    result = finetune(**options_of(data, model, tmp_path), **more)
    printed = capsys.readouterr().out
    assert re.search(rf'\nchannels +{channels}, mean ', printed) and 'image-channels' not in printed
    assert 'images of other channels' not in printed
    config = load_config(result.config)
    assert config.model.backbone.in_chans == channels
    assert result.best is not None
    assert read_checkpoint(result.best)['state_dict']['backbone.stem.conv1.weight'].shape[1] == channels
    assert evaluate(result.config, tmp_path / 'run', show_dir=tmp_path / 'show')

    images = sorted((data / 'images/val').iterdir())
    predictor = Predictor(result.config, result.best, threshold=0.0)
    numbers = dict(float1='float', npy12='float', rgba='uint8', uint5='uint16')[kind]
    pixels = PixelFormat(channels=channels, rgb=more.get('rgb'), dtype=numbers)
    assert predictor.pixels == pixels
    mean, std = (np.array(config.model.data_preprocessor[key]) for key in ('mean', 'std'))
    prepared, (h, w) = predictor.prepare(read_image(images[0], pixels))
    raw = read_image(images[0], pixels)
    assert model == 'classifier' or (h, w) == raw.shape[:2]
    if model != 'classifier':  # the backbone gets the file's numbers, normalized by those of the data
        expected = (raw - mean) / std
        np.testing.assert_allclose(prepared[0, :, :h, :w].numpy().transpose(1, 2, 0), expected, atol=1e-4)
    of_files, of_arrays = predictor(images), predictor([read_image(path, pixels) for path in images])
    for one, other in zip(of_files, of_arrays, strict=True):
        assert (one.scores == other.scores).all() and (one.boxes == other.boxes).all()
    assert predictor.draw(images[0], of_files[0]).mode == 'RGB'
    if model == 'cascade':
        assert Predictor(result.config, result.best, tile=64)(images)

    size = SIZE if model != 'classifier' else (64, 64)
    path, parity = export(
        result.config,
        result.best,
        tmp_path / 'exported',
        size=size,
        format=format,
        verify=data / 'images/val',
    )
    assert not parity.failures
    with trusting_pickles():
        exported = Predictor(path, threshold=0.0)
    assert exported.pixels == pixels
    for one, other in zip(exported(images), of_files, strict=True):
        if model == 'fpn':
            assert (one.label_map == other.label_map).mean() > 0.999
    folder = publish(tmp_path / 'run', tmp_path / 'published')
    report = predict(folder, sources=[data / 'images/val'], out=tmp_path / 'out')
    assert report.images == 2 and not report.failed
    colors = tmp_path / 'colors.png'
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(colors)
    if channels != 3:
        with pytest.raises(UserError, match=f'has 3 channels, but {channels} are expected'):
            exported([colors])
        with pytest.raises(UserError, match=rf'reads images \(H, W, {channels}\)'):
            predictor.predict_pixels([np.zeros((64, 96, 3), np.uint8)])


def test_images_of_different_channels_are_an_error(tmp_path):
    data = converted(tmp_path / 'data', 'uint5')
    shutil.rmtree(data / 'labels')
    path = sorted((data / 'images/train').iterdir())[1]
    tifffile.imwrite(path, tifffile.imread(path)[..., :4], photometric='minisblack', planarconfig='contig')
    with pytest.raises(
        UserError, match=r'images of different numbers of channels .*5 of 5 channels of uint16'
    ):
        finetune(data=data, arch='nano', dry_run=True)
    lines, errors = check_data({}, [], data=str(data))
    assert errors == 1 and any('1 of 4 channels of uint16' in line for line in lines)


def test_colors_stay_colors(tmp_path, capsys):
    """Transparency is no channel unless it is asked for; nothing about a config of colors changes."""
    data = converted(tmp_path / 'data', 'rgba')
    shutil.rmtree(data / 'labels')
    made = finetune(data=data, arch='nano', work_dir=tmp_path / 'run', config_only=True)
    config = load_config(made.config)
    assert 'in_chans' not in config.model.backbone
    assert config.train_dataloader.dataset.pipeline[0] == dict(type='LoadImageFromFile')
    assert config.model.data_preprocessor.type.endswith('DetDataPreprocessor')
    assert not config.model.data_preprocessor.type.startswith('Multi')
    for options, message in (
        (dict(rgb=(0, 1, 2)), r'--rgb: rgb=\(0, 1, 2\): only with channels'),
        (dict(channels='all', rgb=(0, 1, 4)), '--rgb: .*each from 0 to 3'),
        (dict(channels='most'), '--channels most: choose color or all'),
    ):
        with pytest.raises(UserError, match=message):
            finetune(data=data, arch='nano', dry_run=True, **options)


@pytest.mark.parametrize('channels', [1, 2, 4, 5, 6, 12])
def test_the_stem_is_adapted_as_by_timm(channels):
    source = resolve_checkpoint(NANO)
    tensors = read_checkpoint(source)['state_dict']
    adapted, note = adapt_stem(tensors, FasterViT('nano', in_chans=channels).state_dict())
    name = 'stem.conv1.weight'
    torch.testing.assert_close(
        adapted[name], adapt_input_conv(channels, tensors[name]).to(tensors[name].dtype)
    )
    assert f'{channels} channel' in note
    colors, others = FasterViT('nano').eval(), FasterViT('nano', in_chans=channels).eval()
    for net in (colors, others):
        net.load_pretrained(source)
    if channels not in (1, 3, 6, 12):
        return  # a color more than another
    gray = torch.randn(1, 1, 64, 96)  # equal channels give what equal colors give
    with torch.inference_mode():
        expected, found = colors(gray.expand(1, 3, 64, 96)), others(gray.expand(1, channels, 64, 96))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)


def test_weights_of_five_channels_fit_no_colors(tmp_path):
    net = FasterViT('nano', in_chans=5)
    torch.save(dict(state_dict=net.state_dict()), tmp_path / 'five.pth')
    with pytest.raises(UserError, match='in_chans=5'):
        FasterViT('nano').load_pretrained(tmp_path / 'five.pth')
    FasterViT('nano', in_chans=5).load_pretrained(tmp_path / 'five.pth')


def test_training_stops_where_config_and_files_differ(tmp_path):
    data = converted(tmp_path / 'data', 'uint5')
    shutil.rmtree(data / 'labels')
    made = finetune(data=data, arch='nano', work_dir=tmp_path / 'run', config_only=True)
    text = (tmp_path / 'run/finetune.py').read_text()
    (tmp_path / 'run/finetune.py').write_text(text.replace('channels=5', 'channels=4'))
    from fastervit_backbone.train import train

    with pytest.raises(UserError, match='it has 5 channels of uint16, and the config says channels=4'):
        train(made.config)


def test_weights_of_colors_start_a_model_of_channels(tmp_path, capsys):
    """A whole model, as of a run before, and what a classifier's config loads."""
    colors = make_shapes(tmp_path / 'colors', train=4, val=2, size=SIZE, seed=3)
    shutil.rmtree(colors / 'labels')
    options = dict(arch='nano', model='cascade', epochs=1, batch=2, size=SIZE)
    first = finetune(data=colors, work_dir=tmp_path / 'first', **options)
    data = converted(tmp_path / 'data', 'uint5')
    shutil.rmtree(data / 'labels')
    capsys.readouterr()
    second = finetune(data=data, work_dir=tmp_path / 'second', start=first.best, **options)
    printed = capsys.readouterr().out
    assert 'its 3 colors in turn for 5 channels' in printed and 'nothing is frozen' in printed
    assert second.best is not None


def test_what_looks_like_channels_and_is_none(tmp_path):
    """Pictures with arrays beside them are pictures; rows are no channels; a float model reads no 8 bits."""
    (tmp_path / 'photos').mkdir()
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / 'photos/b.png')
    np.save(tmp_path / 'photos/a.npy', np.zeros((197, 768), np.float32))
    assert [path.name for path in images_below(tmp_path / 'photos')] == ['b.png']
    rows = tmp_path / 'rows.tif'
    tifffile.imwrite(rows, np.zeros((48, 64, 5), np.uint16), metadata=None, photometric='minisblack')
    with pytest.raises(UserError, match='48 pages of 5x64 pixels: write a file for each, or channels as'):
        read_channels(rows)
    Image.fromarray(np.zeros((64, 96), np.uint8)).save(tmp_path / 'gray.png')
    with pytest.raises(UserError, match='has numbers of uint8, but float is expected'):
        read_image(tmp_path / 'gray.png', PixelFormat(channels=1, dtype='float'))
    shutil.copy(tmp_path / 'photos/b.png', tmp_path / 'png.tif')
    assert look(tmp_path / 'png.tif').rules() == [] and read_image(tmp_path / 'png.tif').shape == (64, 96, 3)
    np.save(tmp_path / 'nan.npy', np.full((64, 96), np.nan))
    file = look(tmp_path / 'nan.npy')
    assert file.problem == 'image-unsupported' and file.reason.startswith('6144 of 6144 numbers are NaN')


def test_colors_that_were_asked_for(tmp_path):
    data = converted(tmp_path / 'data', 'npy12')
    shutil.rmtree(data / 'labels')
    with pytest.raises(UserError, match=r'--channels color: .* has 12 channels of float, no colors'):
        finetune(data=data, arch='nano', dry_run=True, channels='color')


@pytest.mark.long
def test_half_precision_holds_large_numbers(tmp_path):
    """16 bits end at 65504, and a camera's white is 65535: pixels are normalized before they are rounded."""
    data = converted(tmp_path / 'data', 'uint5')
    result = finetune(**options_of(data, 'fpn', tmp_path))
    options = dict(size=SIZE, format='onnx', half=True, verify=data / 'images/val')
    path, parity = export(result.config, result.best, tmp_path / 'exported', **options)
    assert not parity.failures
    white = read_channels(next((data / 'images/val').iterdir()))
    white[:32] = 65535
    maps = [Predictor(*source)([white])[0].label_map for source in ((path,), (result.config, result.best))]
    assert (maps[0] == maps[1]).mean() > 0.98


def test_of_mixed_channels_colors_can_be_read(tmp_path):
    data = converted(tmp_path / 'data', 'rgba')
    shutil.rmtree(data / 'labels')
    path = sorted((data / 'images/train').iterdir())[0]
    array = np.asarray(Image.open(path))
    tifffile.imwrite(path, array, photometric='rgb', extrasamples=['unspecified'])
    with pytest.raises(UserError, match='images of different numbers of channels'):
        finetune(data=data, arch='nano', dry_run=True)
    finetune(data=data, arch='nano', dry_run=True, channels='color')
