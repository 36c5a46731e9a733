"""The benchmark at tiny sizes: every kind of model runs, rows are consistent, errors are one line."""

import json
import math
from dataclasses import replace

import pytest
import torch

from fastervit_backbone.benchmark import run as benchmark
from fastervit_backbone.benchmark import throughput
from fastervit_backbone.benchmark.candidates import build, build_fastervit
from fastervit_backbone.benchmark.run import parse_size
from fastervit_backbone.benchmark.setting import Setting
from fastervit_backbone.benchmark.throughput import Timing, compare, peak_memory
from fastervit_backbone.models.arch import ARCHS
from fastervit_backbone.utils.errors import UserError
from fastervit_paper.stage_profile import parts_of, profile_stages, write_stages
from tests.helpers import ROOT

OPTIONS = dict(
    size=['64'],
    batch=1,
    dtype=['fp32'],
    device='cpu',
    channels_last=False,
    compile=False,
    train=False,
    rounds=2,
    threads=None,
    stages=None,
    data=None,
    out=None,
)
DEMOS = ROOT / 'configs' / 'demo'


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(throughput, 'TURN_SECONDS', 0.0)


def run(models, **options):
    benchmark.run(models=models, **(OPTIONS | options))


def test_tables_json_and_pictures(tmp_path, capsys):
    pytest.importorskip('matplotlib')
    out = tmp_path / 'benchmarks' / 'cpu'
    models = ['fastervit:nano', 'fastervit:nano:deploy']
    run(models, size=['64', '2x64x96', '96'], dtype=['fp32', 'bf16'], out=str(out))
    rows = json.loads(out.with_suffix('.json').read_text())
    assert len(rows) == 3 * 2 * 2 and {r['model'] for r in rows} == set(models)
    for r in rows:
        assert r['images_per_second'] == pytest.approx(r['setting']['batch'] / r['seconds'])
        assert r['p95'] >= 0.9 * r['seconds']
        assert r['ratio_low'] <= r['ratio'] <= r['ratio_high']
        assert r['model'] != models[0] or r['ratio'] == 1
        assert r['machine']['torch'] == torch.__version__
        assert r['machine']['threads'] >= 1 and r['machine']['commit']
    text = out.with_suffix('.md').read_text()
    assert text.count('| fastervit:nano |') == 6
    assert '2 x 3 x 64 x 96, bf16, inference' in text and 'cpu_sizes.png' in text
    assert out.with_name('cpu_sizes.png').read_bytes().startswith(b'\x89PNG')
    assert '**1.00** (1.00-1.00)' in capsys.readouterr().out


@pytest.mark.parametrize('train', [False, True])
def test_timm_and_ours_train_and_infer(train):
    pytest.importorskip('timm')
    names = ['fastervit:nano', 'timm:convnext_atto', 'timm:swin_tiny_patch4_window7_224'][: 3 - train]
    rows = compare(names, Setting((64, 96), 2, train=train, channels_last=True), rounds=1, warmup=1)
    assert [r.model for r in rows] == names
    assert all(isinstance(r, Timing) and r.seconds > 0 and r.peak_mib > 0 for r in rows)


def test_training_steps_leave_no_gradients_and_reach_every_parameter(monkeypatch):
    losses = []
    real = torch.Tensor.backward

    def backward(loss):
        real(loss)
        losses.append(loss)

    monkeypatch.setattr(torch.Tensor, 'backward', backward)
    build('fastervit:nano', Setting((64, 64), train=True))()
    assert len(losses) == 1 and math.isfinite(losses[0].item())


def test_carriers_of_higher_order_and_single_stages():
    names = ['fastervit:nano:carrier_window=4:deploy', 'stage:nano:3', 'stage:nano:4:carrier_window=4']
    rows = compare(names, Setting((160, 224)), rounds=1, warmup=1)
    assert [r.model for r in rows] == names and all(r.seconds > 0 for r in rows)
    net, _ = build_fastervit('nano:carrier_window=4', Setting((64, 64)))
    assert net.spec == replace(ARCHS['nano'], carrier_window=4)


@pytest.mark.long
def test_whole_detectors_and_segmenters():
    pytest.importorskip('mmdet')
    for head in ('fpn', 'cascade'):
        path = f'{DEMOS}/{head}_shapes.py'
        rows = compare([path, f'{path}:deploy'], Setting((96, 128)), rounds=1, warmup=1)
        assert [r.seconds > 0 for r in rows] == [True, True]
    with pytest.raises(UserError, match='the backbone SwinTransformer has no deploy mode'):
        build(f'{ROOT}/configs/baselines/cascade_swin-t_3x.py:deploy', Setting((96, 96)))
    with pytest.raises(UserError, match='leave out --train'):
        build(f'{DEMOS}/fpn_shapes.py', Setting((96, 96), train=True))


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('resnet50', 'no candidate .resnet50.: expected fastervit:ARCH'),
        ('fastervit:7', 'no candidate fastervit:7: use nano, 0, 1'),
        ('fastervit:2:fast', 'with or without :carrier_window=N and :deploy'),
        ('fastervit:2:carrier_window=x', 'with or without :carrier_window=N and :deploy'),
        ('fastervit:2:carrier_window=1', 'carrier_window=1 must be at least twice carrier_size=2'),
        ('stage:0:5', 'no candidate stage:0:5: expected stage:ARCH:NUMBER'),
        ('timm:convnext_tyni', "timm has no model 'convnext_tyni', it has convnext"),
        ('configs/nothing.py', 'no config at configs/nothing.py'),
    ],
)
def test_unknown_models(name, message):
    if name.startswith('timm'):
        pytest.importorskip('timm')
    if name.endswith('.py'):
        pytest.importorskip('mmdet')
    with pytest.raises(UserError, match=message):
        build(name, Setting((64, 64)))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(models=[]), 'name at least one model'),
        (dict(size=['axb']), r'--size axb: expected HEIGHTxWIDTH'),
        (dict(size=['16x64']), 'at least 32 pixels'),
        (dict(dtype=['tf32']), '--dtype tf32 exists only on CUDA'),
        (dict(rounds=0), '--rounds 0: must be at least 1'),
        (dict(stages=write_stages, train=True), '--stages takes one --size, one --dtype'),
        (dict(data='x.py'), '--data measures a config, not models'),
        (dict(models=['timm:resnet18'], stages=write_stages), '--stages profiles fastervit:ARCH'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        run(**(dict(models=['fastervit:nano']) | options))


def test_sizes():
    assert parse_size('224', 4) == (4, (224, 224))
    assert parse_size('800x1280', 1) == (1, (800, 1280))
    assert parse_size('8X224x192', 1) == (8, (224, 192))


def test_peak_memory_counts_tensors_that_exist_at_once():
    def work():
        a = torch.empty(1 << 20, dtype=torch.uint8)
        b = torch.empty(2 << 20, dtype=torch.uint8)
        del a
        c = torch.empty(1 << 20, dtype=torch.uint8)
        return b, c

    assert peak_memory(work, 'cpu') == pytest.approx(3 << 20, rel=0.01)


def test_stages_add_up(nano, tmp_path):
    """FLOPs of the stem against a formula: its two convolutions."""
    parts = profile_stages(nano, torch.randn(1, 3, 64, 96), rounds=1)
    assert [p.name for p in parts] == [name for name, _ in parts_of(nano)] and len(parts) == 1 + 4 + 3
    hidden, dim = nano.stem.conv1.out_channels, nano.stem.conv2.out_channels
    assert parts[0].gflops == pytest.approx(2 * 9 * (3 * hidden * 32 * 48 + hidden * dim * 16 * 24) / 1e9)
    pytest.importorskip('matplotlib')
    run(['fastervit:nano', 'fastervit:nano:deploy'], stages=write_stages, out=str(tmp_path / 'stages'))
    text = (tmp_path / 'stages.md').read_text()
    assert text.count('| stage 3 |') == 2 and '| matrix products |' in text
    assert (tmp_path / 'stages_fastervit-nano-deploy.png').is_file()


@pytest.mark.slow
def test_data_path(tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmdet')
    from fastervit_backbone.benchmark import data_path
    from fastervit_backbone.datasets.shapes import make_shapes

    monkeypatch.setenv('SHAPES_ROOT', str(make_shapes(tmp_path / 'shapes', train=16, val=1, size=(96, 128))))
    monkeypatch.setattr(data_path, 'SECONDS', 0.1)
    monkeypatch.setattr(data_path, 'EVALUATED', 20)
    monkeypatch.setattr(data_path.os, 'cpu_count', lambda: 1)
    run([], data=f'{DEMOS}/cascade_shapes.py', out=str(tmp_path / 'data'))
    text = (tmp_path / 'data.md').read_text()
    assert 'An epoch waits for **the model' in text and '| COCO box evaluation, pycocotools' in text
    rows = [line for line in text.splitlines() if line.startswith('| ') and 'images/s' not in line]
    rates = [float(row.split('|')[2]) for row in rows]
    assert len(rates) >= 4 and min(rates) > 0
    with pytest.raises(UserError, match="supports only detectors, and this is a config of 'mmseg'"):
        run([], data=f'{DEMOS}/fpn_shapes.py')


def test_a_detector_finds_as_many_objects_as_asked_for():
    from fastervit_backbone.benchmark.config_models import _model, data_samples

    cascade = f'{DEMOS}/cascade_shapes.py'
    model, _ = _model(cascade, '', Setting(size=(96, 128), objects=7))
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        (result,) = model.predict(images, data_samples('mmdet', (96, 128)))
    assert len(result.pred_instances) == 7 and result.pred_instances.masks.shape == (7, 96, 128)
    with pytest.raises(UserError, match=r'fpn_shapes\.py has no score threshold'):
        _model(f'{DEMOS}/fpn_shapes.py', '', Setting(size=(96, 128), objects=7))


@pytest.mark.slow
def test_exported_backbones_and_files(tmp_path, capsys):
    for package in ('onnx', 'onnxruntime', 'openvino', 'nncf', 'mmdet'):
        pytest.importorskip(package)
    from fastervit_backbone.export.run import export
    from tests.helpers import FPN
    from tests.mm_helpers import save_untrained

    checkpoint = save_untrained(FPN, tmp_path / 'fpn.pth')
    path, _ = export(FPN, checkpoint, tmp_path, size=(64, 96))
    out = tmp_path / 'cpu_export'
    kinds = ('onnx', 'openvino', 'openvino-int8')
    models = ['fastervit:nano:deploy', *(f'fastervit:nano:{kind}' for kind in kinds)]
    models += [str(path), *(f'{FPN}:{checkpoint}{mode}' for mode in ('', ':deploy', ':onnx-int8'))]
    run(models, size=['64x96'], out=str(out))
    rows = {row['model']: row for row in json.loads(out.with_suffix('.json').read_text())}
    assert list(rows) == models and all(row['seconds'] > 0 for row in rows.values())
    assert (
        rows[models[3]]['file_mib'] < 0.5 * rows[models[2]]['file_mib']
        and rows[models[0]]['file_mib'] is None
    )
    assert rows[str(path)]['peak_mib'] > rows[str(path)]['file_mib'] > 5
    assert '| file, MiB | accuracy |' in out.with_suffix('.md').read_text()
    for options, message in (
        (dict(size=['96']), 'takes 1x64x96, not 1x96x96'),
        (dict(size=['64x96'], dtype=['bf16']), 'fp32, or bf16 with openvino'),
        (dict(size=['64x96'], train=True), 'runs only on a cpu'),
    ):
        with pytest.raises(UserError, match=message):
            run([str(path)], **options)


def test_advised_sizes_have_no_padding(capsys):
    from fastervit_backbone.benchmark.advice import nearby_sizes, size_step, wasted

    spec = ARCHS['2']
    assert size_step(spec) == 224 and size_step(ARCHS['4_21k_384']) == 384
    assert wasted(spec, (800, 1280)) == pytest.approx([56 * 84 / (50 * 80) - 1, 28 * 42 / (25 * 40) - 1])
    sizes = nearby_sizes(spec, (800, 1280))
    assert set(sizes) == {(672, 1120), (672, 1344), (896, 1120), (896, 1344)}
    assert all(wasted(spec, size) == [0, 0] for size in sizes)
    assert nearby_sizes(spec, (100, 224)) == [(224, 224)]
    run([], advise_size=(96, 224))
    lines = capsys.readouterr().out.splitlines()
    costs = [float(line.split()[-1]) for line in lines[2:]]
    assert '96x224' in lines[2] and '224x224' in lines[3] and costs[0] > costs[1]
    with pytest.raises(UserError, match='expected fastervit:ARCH'):
        run(['timm:resnet18'], advise_size=(96, 224))
