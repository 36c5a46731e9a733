"""Whole models as files: equal to the model, used like it, and rejected where they differ."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from onnx import numpy_helper
from pycocotools.coco import COCO

from fastervit_backbone.benchmark import run as benchmark
from fastervit_backbone.datasets.images import read_image
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.export import proposals
from fastervit_backbone.export.build import build_graph
from fastervit_backbone.export.describe import describe
from fastervit_backbone.export.images import Images, generated_images, score
from fastervit_backbone.export.parity import compare
from fastervit_backbone.export.reference import Reference
from fastervit_backbone.export.run import RejectedError, check, export
from fastervit_backbone.export.write import write
from fastervit_backbone.inference.exported import ExportedModel
from fastervit_backbone.inference.exported_info import info_path, read_info, write_info
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.structures.prediction import Categories, Prediction
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.trust import trusting_pickles
from tests.helpers import ROOT, UPERNET, assert_one_line_error
from tests.helpers import SHALLOW_CASCADE as CASCADE
from tests.helpers import SHALLOW_FPN as FPN
from tests.mm_helpers import build, load, narrow, save_untrained, with_less_work, with_nano
from tests.processes import verb

#: Runs the fastervit command where only onnxruntime, numpy, OpenCV, Pillow, pycocotools and filelock are.
WITHOUT_TORCH = """
import importlib.util, sys

MISSING = {'torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'timm', 'supervision',
           'matplotlib', 'scipy', 'rich', 'jinja2', 'safetensors', 'huggingface_hub', 'openvino', 'onnx'}

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in MISSING:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name.split('.')[0])

found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split('.')[0] in MISSING else found(name, *rest)
sys.meta_path.insert(0, Finder())
from fastervit_cli import main
main()
"""
FAMILIES = [
    'demo/cascade_shapes',
    'cascade_fastervit0_3x',
    'mask-rcnn_fastervit0_1x',
    'faster-rcnn_fastervit0_voc0712',
    'retinanet_fastervit0_1x',
    'atss_fastervit0_1x',
    'dino_fastervit0_12e',
    'rtmdet',
    'demo/rtmdet-ins_shapes',
    'demo/mask2former_shapes',
    'demo/mask2former-panoptic_shapes',
    'demo/mask2former-semantic_shapes',
    'upernet_fastervit0_160k',
    'fpn_fastervit1_40k',
    'classification/imagenet200_nano',
]
#: The second is no multiple of 32, which RTMDet's neck needs.
SIZES = (128, 160), (131, 99)
#: Family without a config of its own -> config that is changed.
CONFIG_OF = {'rtmdet': 'demo/rtmdet-ins_shapes'}
#: Those that others stand for by default: the demo's Cascade, and batches of Mask R-CNN.
LARGE = ('cascade_fastervit0_3x', 'mask-rcnn_fastervit0_1x')
#: Detectors that take images of any size.
ANY_SIZE = [
    n for n in FAMILIES if n.split('_')[0] in ('demo/cascade', 'retinanet', 'atss', 'demo/rtmdet-ins')
]
#: Those that are tried at an odd size by default.
ODD = ('retinanet_fastervit0_1x', 'fpn_fastervit1_40k', 'classification/imagenet200_nano')


class GraphSession:
    """A graph that runs eagerly, in place of a file."""

    device, inputs = 'cpu', ['images']

    def __init__(self, graph):
        self.graph, self.outputs = graph, list(graph.outputs)

    def run(self, images):
        with torch.inference_mode():
            return [result.numpy() for result in self.graph(torch.from_numpy(images))]


def make_it_detect(model):
    """Weights whose scores and boxes depend on the image."""
    spread = ('_cls.weight', 'conv_seg.weight', 'cls_branches', 'head.fc.w')
    with torch.no_grad():
        for name, p in model.named_parameters():
            if 'rtm_' in name:
                p.normal_(0, 0.3)
            elif any(part in name for part in spread):
                p.normal_(0, 0.1)
            elif name.endswith(('retina_cls.bias', 'atss_cls.bias')):
                p.fill_(-1.0)
            elif '_reg.weight' in name:
                p.normal_(0, 0.02)


def small_config(name):
    """Load the config of a family, with the nano backbone and little work."""
    config = load(ROOT / 'configs' / f'{CONFIG_OF.get(name, name)}.py')
    if '/' not in name and name not in CONFIG_OF:
        config = with_less_work(with_nano(config), regions=60)
    if name == 'rtmdet':  # without masks
        head = config.model.bbox_head
        head.type, head.exp_on_reg = 'RTMDetSepBNHead', True
        del head.loss_mask
    if config.model.type == 'DINO':
        config.model.num_queries = 20
    return config


@pytest.mark.parametrize(
    ('name', 'size'),
    [pytest.param(n, SIZES[0], marks=[pytest.mark.slow] * (n in LARGE)) for n in FAMILIES]
    + [
        pytest.param(n, SIZES[1], marks=[pytest.mark.slow] * (n not in ODD))
        for n in FAMILIES
        if 'rtmdet' not in n
    ]
    + [pytest.param(n, None, marks=[pytest.mark.slow] * ('demo' not in n)) for n in ANY_SIZE],
)
def test_the_graph_of_every_family_is_its_model(name, size):
    config = small_config(name)
    model = build(config).eval()
    make_it_detect(model)
    graph = build_graph(model, config, size, backbone=False)
    names = tuple(map(str, range(1000)))
    exported = ExportedModel.__new__(ExportedModel)
    exported.info = describe(ROOT / 'x.py', config, graph, Categories(names, tuple(range(1000))), 1, False)
    exported.task, exported.size, exported.batch, exported.path = graph.task, size, 1, ROOT / 'x.onnx'
    exported.session, exported.categories = GraphSession(graph), Categories(names, tuple(range(1000)))
    images = generated_images()
    images.generated = images.generated[1:5]
    images.paths = images.paths[1:5]
    parity = compare(exported, Reference(model, config, graph), images, 'float32')
    assert not parity.failures, parity
    if graph.task == 'detection':
        assert parity.objects >= 20
        assert parity.least_iou > 0.99
        assert 'masks' not in graph.outputs or parity.mask_iou is not None
    else:
        assert parity.arrays and max(parity.arrays.values()) < 1e-5


def test_a_batch_gives_the_same_as_single_images():
    config = with_less_work(with_nano(load(ROOT / 'configs/mask-rcnn_fastervit0_1x.py')), regions=200)
    config = narrow(config)
    model = build(config).eval()
    make_it_detect(model)
    graph = build_graph(model, config, (96, 128), backbone=False)
    images = torch.randint(256, (3, 96, 128, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together = graph(images)
        alone = [graph(images[i : i + 1]) for i in range(3)]
    for i, name in enumerate(graph.outputs):
        single = torch.cat([result[i] for result in alone])
        torch.testing.assert_close(together[i], single, atol=1e-3, rtol=1e-3, msg=name)


def test_the_file_equals_the_model(exported_detector, detector, images):
    path, parity = exported_detector
    assert parity.objects > 50 and parity.unmatched == 0 and parity.score_difference < 1e-4
    assert parity.metrics['box AP'][0] == pytest.approx(parity.metrics['box AP'][1], abs=0.002)
    info = json.loads(path.with_name(f'{path.name}.json').read_text())
    assert [c['id'] for c in info['classes']] == [7, 0, 90]
    assert info['size'] == [128, 160] and info['parity']['failures'] == []
    assert not [p for p in path.parent.iterdir() if p.name.startswith('.')]

    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {'NonMaxSuppression', 'RoiAlign'} <= kinds and 'GridSample' not in kinds
    assert all(entry.domain == '' for entry in onnx.load(path).opset_import)

    files = sorted((images / 'images/val').iterdir())
    names = Predictor(path).categories.names
    some = [names[k] for k in Predictor(path, threshold=0.05)(files)[0].labels[:1]]
    for options in (dict(threshold=0.1), dict(threshold=0.05, classes=some)):
        expected = Predictor(CASCADE, detector, **options)(files)
        found = Predictor(path, **options)(files)
        for a, b in zip(expected, found, strict=True):
            assert abs(len(a) - len(b)) <= 1 and len(a) > 2
            if len(a) == len(b):
                np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
    tiled = Predictor(path, tile=100)(files[:1])[0]
    assert tiled.size == (128, 160) and len(tiled)


def test_predicting_without_torch(exported_detector, images, tmp_path):
    path, _ = exported_detector
    command = [sys.executable, '-c', WITHOUT_TORCH, 'predict', path, images / 'images/val', '--no-draw']
    command += ['--threshold', '0.1', '--out', tmp_path / 'out']
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert [c['id'] for c in found['categories']] == [7, 0, 90]
    expected = sum(len(p) for p in Predictor(path, threshold=0.1)(sorted((images / 'images/val').iterdir())))
    assert len(found['annotations']) == expected > 10
    assert all('segmentation' in a for a in found['annotations'])


def test_unusual_images(exported_detector, tmp_path):
    from PIL import Image

    path, _ = exported_detector
    predictor = Predictor(path, threshold=0.05)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 40, 4), np.uint8)
    for mode in ('RGBA', 'L', 'P'):
        Image.fromarray(pixels).convert(mode).save(tmp_path / f'{mode}.png')
        assert predictor([tmp_path / f'{mode}.png'])[0].size == (70, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated
    Image.fromarray(pixels[..., :3]).save(tmp_path / 'turned.jpg', exif=exif)
    assert predictor([tmp_path / 'turned.jpg'])[0].size == (40, 70)


def test_evaluating_the_file(exported_detector, images, tmp_path, monkeypatch):
    path, parity = exported_detector
    monkeypatch.setenv('SHAPES_ROOT', str(images))
    metrics = evaluate(CASCADE, path, work_dir=tmp_path / 'work', show_dir=tmp_path / 'pictures')
    assert metrics['coco/bbox_mAP'] == pytest.approx(parity.metrics['box AP'][1], abs=0.001)
    assert (tmp_path / 'pictures/overview.png').is_file()
    with pytest.raises(UserError, match=r'is for detection, .* for segmentation'):
        evaluate(FPN, path, work_dir=tmp_path / 'work')
    with pytest.raises(UserError, match=r'--deploy: .* is fixed'):
        evaluate(CASCADE, path, work_dir=tmp_path / 'work', deploy=True)


def describe_again(path):
    """Write the digests of a changed file into its json."""
    write_info(path, json.loads(info_path(path).read_text()))


@pytest.mark.long
def test_a_damaged_file_is_rejected(exported_detector, detector, images, tmp_path):
    path, _ = exported_detector
    for suffix in ('', '.json'):
        shutil.copy(f'{path}{suffix}', tmp_path / f'model.onnx{suffix}')
    damaged = tmp_path / 'model.onnx'
    assert not check(CASCADE, detector, check=damaged).failures
    model = onnx.load(damaged)
    weight = next(i for i in model.graph.initializer if 'neck.lateral_convs.1' in i.name and i.dims[1:])
    values = numpy_helper.to_array(weight).copy()
    values[0] = -2 * values[1]
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, damaged)
    with pytest.raises(UserError, match=r'model\.onnx is not the file that model\.onnx\.json describes'):
        check(CASCADE, detector, check=damaged)
    describe_again(damaged)
    with pytest.raises(
        RejectedError, match=r'the first layer that differs: neck\.lateral_convs\.1'
    ) as caught:
        check(CASCADE, detector, check=damaged)
    assert caught.value.exit_code == 1 and '\n' not in str(caught.value)
    assert not damaged.exists() and (tmp_path / 'model.onnx.rejected').is_file()
    assert (tmp_path / 'model.onnx.json.rejected').is_file()


def test_masks_of_nothing_are_rejected(exported_detector, detector, tmp_path):
    path, _ = exported_detector
    for suffix in ('', '.json'):
        shutil.copy(f'{path}{suffix}', tmp_path / f'model.onnx{suffix}')
    model = onnx.load(tmp_path / 'model.onnx')
    for weight in model.graph.initializer:
        if 'conv_logits.bias' in weight.name:
            weight.CopyFrom(numpy_helper.from_array(np.full(weight.dims, -50, np.float32), weight.name))
    onnx.save(model, tmp_path / 'model.onnx')
    describe_again(tmp_path / 'model.onnx')
    with pytest.raises(RejectedError, match='objects without counterpart'):
        check(CASCADE, detector, check=tmp_path / 'model.onnx')


def test_no_detections_are_no_error():
    images = Images([ROOT / 'a.png'], truth=COCO(), ids=[1])
    images.truth.dataset = dict(
        images=[dict(id=1, width=9, height=9)], categories=[dict(id=1, name='a')], annotations=[]
    )
    images.truth.createIndex()
    empty = Prediction((9, 9), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), [])
    assert score([empty], images, Categories(('a',), (1,))) == {'box AP': 0.0, 'mask AP': 0.0}


@pytest.mark.parametrize('name', ['mask-rcnn_fastervit0_1x', 'classification/imagenet200_nano'])
@pytest.mark.parametrize('to_rgb', [True, False])
def test_pixels_are_normalized_as_the_model_does(name, to_rgb):
    config = load(ROOT / 'configs' / f'{name}.py')
    if '/' not in name:
        config = with_nano(config)
        config.model.data_preprocessor.bgr_to_rgb = to_rgb
    else:
        mean, std = [9.0, 50.0, 200.0], [40.0, 50.0, 60.0]
        config.model.data_preprocessor = dict(mean=mean, std=std, to_rgb=to_rgb, num_classes=200)
    model = build(config).eval()
    graph = build_graph(model, config, (64, 96), backbone=True)
    rgb = torch.randint(256, (64, 96, 3), dtype=torch.uint8)
    data = dict(inputs=[rgb.flip(2).permute(2, 0, 1)], data_samples=None)
    expected = model.backbone(model.data_preprocessor(data, False)['inputs'])
    for found, value in zip(graph(rgb[None]), expected, strict=True):
        torch.testing.assert_close(found, value, atol=1e-4, rtol=1e-4)


def test_a_classifier_prepares_images_as_its_pipeline():
    from fastervit_backbone.inference.inputs import build_test_pipeline

    names = tuple(map(str, range(1000)))
    for name in ('imagenet_fastervit0_300e', 'imagenet_fastervit4_21k_ft_60e', 'cifar10_nano'):
        config = load(ROOT / f'configs/classification/{name}.py')
        pixels = np.random.default_rng(0).integers(0, 256, (301, 260, 3), np.uint8)
        init_default_scope('mmpretrain')
        data = dict(img=pixels, img_shape=(301, 260), ori_shape=(301, 260))
        expected = Compose(build_test_pipeline(config, None))(data)['inputs']
        size = tuple(expected.shape[1:])
        model = SimpleNamespace(task='classification', size=size, is_bgr=False, outputs=('scores',))
        model.reading, model.model, model.mean, model.std = {}, None, torch.zeros(3), torch.ones(3)
        exported = ExportedModel.__new__(ExportedModel)
        categories = Categories(names, tuple(range(1000)))
        exported.info = describe(ROOT / 'x.py', config, model, categories, 1, False)
        exported.task, exported.size = 'classification', size
        canvas, _ = exported.prepare(pixels)
        assert (torch.from_numpy(canvas.copy()) == expected.permute(1, 2, 0).flip(2)).all(), name


def test_batch_norm_of_regions_is_exported(tmp_path):
    """The heads of the paper's Cascade, whose number of regions is unknown to torch.export."""
    config = narrow(small_config('cascade_fastervit0_3x'))
    assert config.model.roi_head.bbox_head[0].norm_cfg.type == 'SyncBN'
    graph = build_graph(build(config).eval(), config, (64, 96), backbone=False)
    path = tmp_path / 'model.pt2'
    write(graph, path, batch=1, dtype=torch.uint8, half=False, dynamic=False)
    noise = torch.randint(256, (1, 64, 96, 3), dtype=torch.uint8)
    for images in (noise, torch.full_like(noise, 128)):  # the second has no objects
        found = torch.export.load(path).module()(images)
        for value, expected in zip(found, graph(images), strict=True):
            torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)


def test_sizes_that_a_neck_cannot_take():
    config = small_config('rtmdet')
    with pytest.raises(UserError, match=r'--size 131x99: .* multiples of 32'):
        build_graph(build(config).eval(), config, (131, 99), backbone=False)


@pytest.mark.slow
def test_formats_beside_each_other(fpn, tmp_path):
    for format in ('openvino', 'onnx', 'openvino'):
        export(FPN, fpn, tmp_path, size=(32, 64), format=format, backbone=True)
    stem = 'fpn_shapes_backbone_32x64'
    names = [f'{stem}{end}' for end in ('.bin', '.onnx', '.onnx.json', '.xml', '.xml.json')]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_a_file_of_something_else(exported_detector, segmenter, tmp_path):
    path, _ = exported_detector
    x = onnx.helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1])
    y = onnx.helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node('Relu', ['x'], ['y'])], 'g', [x], [y])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 20)]), tmp_path / 'o.onnx'
    )
    shutil.copy(f'{path}.json', tmp_path / 'o.onnx.json')
    describe_again(tmp_path / 'o.onnx')
    with pytest.raises(UserError, match=r"has inputs \['x'\], but o\.onnx\.json describes \['images'\]"):
        Predictor(tmp_path / 'o.onnx')
    (tmp_path / 'o.onnx').write_bytes(b'no model')
    describe_again(tmp_path / 'o.onnx')
    with pytest.raises(UserError, match='cannot be loaded'):
        Predictor(tmp_path / 'o.onnx')
    with pytest.raises(UserError, match='leave out the checkpoint'):
        Predictor(path, segmenter)
    for name, value in dict(size=(64, 64), deploy=True, amp=True, options={'a': 1}).items():
        with pytest.raises(UserError, match=f'^{name}: '):
            Predictor(path, **{name: value})
    with pytest.raises(UserError, match='device cuda:x: expected'):
        Predictor(path, device='cuda:x')
    with pytest.raises(UserError, match='needs a checkpoint'):
        Predictor(CASCADE)
    with pytest.raises(UserError, match='device tensorrt: onnxruntime has'):
        Predictor(path, device='tensorrt')
    with pytest.raises(UserError, match='this needs the config and the checkpoint'):
        _ = Predictor(path).model
    with pytest.raises(UserError, match='has other results'):
        check(UPERNET, segmenter, check=path)


@pytest.mark.long
@pytest.mark.parametrize('format', ['onnx', 'torch-export'])
def test_any_size(format, fpn, images, tmp_path):
    data = dict(verify=images / 'images/val', annotations=images / 'labels/val')
    with trusting_pickles():
        path, parity = export(FPN, fpn, tmp_path, dynamic=True, format=format, **data)
        assert parity.arrays['logits'] < 1e-5 and parity.metrics
        predictor, model = Predictor(path), Predictor(FPN, fpn)
    rng = np.random.default_rng(0)
    for shape in ((32, 32), (97, 203), (224, 448), (300, 64)):
        pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
        (found,), (expected,) = predictor([pixels]), model([pixels])
        assert (found.label_map != expected.label_map).mean() < 1e-3


@pytest.mark.long
def test_whole_predictions_are_measured(detector, exported_detector, images, tmp_path, capsys):
    path, _ = exported_detector
    options = dict(size=['128x160'], batch=1, dtype=['fp32'], device='cpu', channels_last=False)
    options |= dict(compile=False, train=False, rounds=2, threads=None, data=None)
    models, out = [f'{CASCADE}:{detector}:deploy', str(path)], str(tmp_path / 'page')
    folder = str(images / 'images/val')
    benchmark.run(models=models, images=folder, out=out, **options)
    assert '4 photographs one by one, fitted into 128 x 160' in (tmp_path / 'page.md').read_text()
    rows = json.loads((tmp_path / 'page.json').read_text())
    assert [r['images_per_second'] for r in rows] == pytest.approx([4 / r['seconds'] for r in rows])
    assert rows[1]['file_mib'] > 1 and 'box AP' in rows[1]['accuracy']
    for wrong, message in (
        (dict(models=['fastervit:nano']), r'--images takes CONFIG\.py:CHECKPOINT'),
        (dict(models=[str(path)], size=['64x96']), 'takes 128x160: give it as --size'),
        (dict(models=[str(path)], batch=2), 'one by one'),
        (dict(models=[str(path)], images=str(tmp_path)), 'no images'),
    ):
        with pytest.raises(UserError, match=message):
            benchmark.run(**dict(options, images=folder, out=None) | wrong)


@pytest.mark.long
def test_fewer_proposals(detector, images, tmp_path):
    """A number, or the fewest with the same AP; the json says so, and a later check knows it."""
    data = dict(verify=images / 'images/val', annotations=images / 'annotations/instances_val.json')
    path, parity = export(CASCADE, detector, tmp_path, size=(64, 96), proposals='7', fixed=True, **data)
    assert read_info(path)['proposals'] == dict(number=7, of=100) and parity.objects
    assert not check(CASCADE, detector, check=path).failures
    with pytest.raises(UserError, match=r"--proposals 101: must be auto, or 1 to 100, the config's number"):
        export(CASCADE, detector, tmp_path, size=(64, 96), proposals='101')
    with pytest.raises(UserError, match='--proposals auto needs images and their truth'):
        export(CASCADE, detector, tmp_path, size=(64, 96), proposals='auto')


def test_the_fewest_proposals_with_the_same_precision(monkeypatch):
    """AP falls below 100 proposals by more than 0.001."""
    head = SimpleNamespace(test_cfg=SimpleNamespace(max_per_img=1000))
    model = SimpleNamespace(rpn_head=head)
    graph = SimpleNamespace(model=SimpleNamespace(rpn_head=SimpleNamespace(test_cfg=SimpleNamespace())))
    reference = SimpleNamespace(model=model, graph=graph, predict=lambda *call: None)
    monkeypatch.setattr(proposals, 'prepare', lambda pixels, info: (pixels, (8, 8)))
    monkeypatch.setattr(
        proposals, 'score', lambda *call: {'box AP': 0.5 - (head.test_cfg.max_per_img < 100) * 0.002}
    )
    pixels = np.zeros((8, 8, 3), np.uint8)
    images = Images([ROOT / 'a.png'], [pixels], truth=[pixels])
    found = proposals.limit_proposals('auto', reference, {}, images, None)
    assert found == dict(number=100, of=1000, metrics={'box AP': [0.5, 0.5]})
    assert head.test_cfg.max_per_img == graph.model.rpn_head.test_cfg.max_per_img == 100


@pytest.mark.parametrize('format', ['openvino', pytest.param('torch-export', marks=pytest.mark.slow)])
def test_other_formats(format, fpn, tmp_path, images):
    if format == 'openvino':
        pytest.importorskip('openvino')
    path, parity = export(FPN, fpn, tmp_path, size=(96, 131), format=format, batch=2)
    assert parity.arrays['logits'] < 1e-5 and parity.pixels < 1e-3
    files = sorted((images / 'images/val').iterdir())[:3]  # a batch and a half
    if format == 'torch-export':
        with pytest.raises(UserError, match='--trust-pickle'):
            Predictor(path)
    with trusting_pickles():
        predictor = Predictor(path)
    together = predictor(files, batch=3)
    assert predictor.batch == 2 and [p.size for p in together] == [(128, 160)] * 3
    for alone, one in zip([predictor([file])[0] for file in files], together, strict=True):
        assert (alone.label_map == one.label_map).mean() > 0.999
    assert {p.suffix for p in tmp_path.iterdir()} <= {'.xml', '.bin', '.json', '.pt2'}


def test_half_and_backbone_and_float_input(tmp_path):
    config, size = FPN.parents[2] / 'configs/demo' / FPN.name, (64, 96)
    nano = save_untrained(config, tmp_path / 'nano.pth')
    path, parity = export(config, nano, tmp_path, size=size, half=True, backbone=True, float_input=True)
    assert parity.precision == 'float16' and 1e-6 < max(parity.arrays.values()) < 5e-2
    assert set(parity.arrays) == {'stage1', 'stage2', 'stage3', 'stage4'}
    assert path.name == 'fpn_shapes_backbone_64x96_fp16.onnx'
    with pytest.raises(UserError, match='no predictions'):
        Predictor(path)


@pytest.mark.long
@pytest.mark.parametrize('format', ['onnx', pytest.param('openvino', marks=pytest.mark.slow)])
def test_eight_bits(format, fpn, images, tmp_path):
    pytest.importorskip('nncf')
    pytest.importorskip('openvino')
    data = dict(verify=images / 'images/val', annotations=images / 'labels/val')
    calibration = images / 'images/train'
    path, parity = export(FPN, fpn, tmp_path, size=(96, 128), format=format, int8=calibration, **data)
    info = json.loads(path.with_name(f'{path.name}.json').read_text())
    assert parity.precision == 'int8' and info['int8']['images'] == 2
    assert info['int8']['accuracy_controlled'] is True
    assert 'decode_head.conv_seg (last layer)' in info['int8']['kept_in_float']
    assert len(info['int8']['kept_in_float']) < 0.7 * info['int8']['products']
    old, new = parity.metrics['mIoU']
    assert old - new <= 0.01
    assert Predictor(path)([read_image(next((images / 'images/val').iterdir()))[..., ::-1]])
    if format == 'onnx':  # what onnxruntime takes
        kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
        quantized = info['int8']['products'] - len(info['int8']['kept_in_float'])
        assert kinds['QuantizeLinear'] >= 10 and kinds['DequantizeLinear'] >= 2 * quantized > 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(), 'one of them'),
        (dict(size=(20, 64)), 'at least 32 pixels'),
        (dict(size=(64, 64), batch=0), '--batch 0'),
        (dict(size=(64, 64), symmetric=True), '--symmetric is for --int8'),
        (dict(size=(64, 64), int8='photos', format='torch-export'), 'writes OpenVINO and ONNX files'),
        (dict(size=(64, 64), format='tensorrt'), 'choose one of onnx'),
        (dict(size=(64, 64), annotations='a.json'), '--verify names the folder'),
        (dict(size=(64, 64), half=True, format='torch-export'), 'keeps the dtype'),
    ],
)
def test_bad_arguments(arguments, message, detector, tmp_path):
    with pytest.raises(UserError, match=message):
        export(CASCADE, detector, tmp_path / 'out', **arguments)
    assert not list(tmp_path.glob('out/*'))


def test_the_tool(fpn, exported_detector, tmp_path):
    path, _ = exported_detector
    done = verb('export', FPN, fpn, '--size', '64x96', '--backbone', '--out', 'out', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'parity on 9 generated images: stage4' in done.stdout and 'written: ' in done.stdout
    done = verb('export', 'cascade_fastervit0_3x', fpn, '--out', 'out', cwd=tmp_path)
    assert done.returncode == 2 and '896x1344' in done.stdout and '--size' in done.stderr
    done = verb(
        'predict', path, '--no-draw', '--out', 'p', '--device', 'cpu', ROOT / 'docs/demo.png', cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert_one_line_error(verb('predict', path, '--out', 'out', cwd=tmp_path), 'no input: name images')


@pytest.mark.slow
@pytest.mark.parametrize('format', ['onnx', 'openvino'])
@pytest.mark.parametrize('name', FAMILIES)
def test_every_family_as_a_file(name, format, tmp_path):
    config = small_config(name)
    config.dump(tmp_path / 'config.py')
    model = build(config)
    make_it_detect(model)
    classes = [str(i) for i in range(200)] if '/' in name and 'imagenet' in name else None
    meta = dict(dataset_meta=dict(classes=classes) if classes else {})
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'model.pth')
    for size in SIZES if 'rtmdet' not in name else SIZES[:1]:
        _, parity = export(tmp_path / 'config.py', tmp_path / 'model.pth', tmp_path, size=size, format=format)
        assert parity.objects > 20 or parity.arrays


@pytest.mark.long
@pytest.mark.parametrize(
    ('name', 'format'),
    [
        pytest.param(n, f, marks=[pytest.mark.slow] * (n != 'demo/cascade_shapes' or f == 'openvino'))
        for n in ANY_SIZE
        for f in ('onnx', 'openvino', 'torch-export')
    ],
)
def test_detectors_of_any_size_as_a_file(name, format, tmp_path):
    config = small_config(name)
    config.dump(tmp_path / 'config.py')
    model = build(config)
    make_it_detect(model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'model.pth')
    options = dict(dynamic=True, format=format, options=small_scale(config))
    with trusting_pickles():
        path, parity = export(tmp_path / 'config.py', tmp_path / 'model.pth', tmp_path, **options)
        assert parity.objects > 20 and not parity.failures
        predictor = Predictor(path, threshold=0.05)
    toolkit = Predictor(
        tmp_path / 'config.py', tmp_path / 'model.pth', threshold=0.05, options=small_scale(config)
    )
    rng = np.random.default_rng(0)
    for shape in ((64, 64), (97, 203), (300, 64)):
        pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
        (found,), (expected,) = predictor([pixels]), toolkit([pixels])
        assert len(found) == len(expected) > 0
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(np.sort(found.boxes, 0), np.sort(expected.boxes, 0), atol=0.05)


def small_scale(config):
    """Options that shrink images, which makes comparisons fast."""
    steps = [step['type'] for step in config.test_dataloader.dataset.pipeline]
    return {f'test_dataloader.dataset.pipeline.{steps.index("Resize")}.scale': (256, 192)}


def test_a_detector_that_belongs_to_one_size_says_so():
    config = small_config('dino_fastervit0_12e')
    with pytest.raises(UserError, match='--dynamic: what a DINO computes belongs to one size'):
        build_graph(build(config).eval(), config, None, backbone=False)
