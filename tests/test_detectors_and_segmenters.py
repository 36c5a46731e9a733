"""Each detector and segmenter on a few real photographs: train, save, resume, evaluate."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from PIL import Image

from fastervit_backbone.datasets.shapes import CLASSES, make_shapes
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.train import train
from tests.helpers import ROOT

SPLITS = ('train', 'val', 'test')
NANO = {'model.backbone.arch': 'nano', 'model.backbone.init_cfg': None}
QUICK = {'train_dataloader.batch_size': 2, 'default_hooks.logger.interval': 1}
QUICK |= {f'{split}_dataloader.num_workers': 0 for split in SPLITS}
QUICK |= {f'{split}_dataloader.persistent_workers': False for split in SPLITS}
SMALL = (320, 192)
VAL_SCALE = {'val_dataloader.dataset.pipeline.1.scale': SMALL}
TEST_SCALE = {'test_dataloader.dataset.pipeline.1.scale': SMALL}
ONE_SCALE = VAL_SCALE | {'train_dataloader.dataset.pipeline.2.scale': SMALL}
CHOICE = 'train_dataloader.dataset.pipeline.3.transforms'
TEST_QUICK = {name: value for name, value in QUICK.items() if name.startswith('test_')}
MANY_SCALES = {f'{CHOICE}.{index}.scales': [SMALL] for index in ('0.0', '1.0', '1.2')}
MANY_SCALES |= VAL_SCALE | {f'{CHOICE}.1.1.crop_size': (120, 160)}
FEW_IMAGES = {f'{split}_dataloader.dataset.indices': 2 for split in SPLITS}
FEW_REGIONS = {
    'model.train_cfg.rpn_proposal.max_per_img': 50,
    'model.train_cfg.rcnn.sampler.num': 32,
    'model.test_cfg.rpn.max_per_img': 50,
    'model.test_cfg.rcnn.score_thr': 0.0,  # an untrained model also has some detections
}
HEADS = {'model.neck.in_channels': [32, 64, 128, 256]}
UPPER = {'model.neck.in_channels': [64, 128, 256]}

DETECTORS = {
    'mask-rcnn_fastervit2_1x': HEADS | ONE_SCALE | FEW_REGIONS,
    'retinanet_fastervit0_1x': UPPER | ONE_SCALE | {'model.test_cfg.score_thr': 0.0},
    'dino_fastervit4_21k_384_36e': UPPER | MANY_SCALES | {'model.num_queries': 100},
    'dino-5scale_fastervit2_12e': HEADS | MANY_SCALES | {'model.num_queries': 100},
}
SLOW = ('mask-rcnn_fastervit2_1x', 'dino_fastervit4_21k_384_36e', 'dino-5scale_fastervit2_12e')


EPOCHS = [{'train_cfg.max_epochs': n, 'train_cfg.val_interval': 2} for n in (1, 2)]


def run(config, work, options, *, lengths):
    """Train, resume with the second length, evaluate; returns the last checkpoint's meta and the metrics."""
    options = QUICK | options
    train(config, work_dir=work, seed=0, options=options | lengths[0])
    train(config, work_dir=work, seed=0, resume=True, options=options | lengths[1])
    last = Path((work / 'last_checkpoint').read_text().strip())
    meta = torch.load(last, weights_only=False)['meta']
    test_options = {k: v for k, v in options.items() if 'train_' not in k}
    return meta, evaluate(config, work, work_dir=work / 'test', options=test_options)


@pytest.mark.long
@pytest.mark.realdata
@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in DETECTORS]
)
def test_detectors_on_coco(name, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', str(real_data / 'coco_mini128'))
    config = ROOT / 'configs' / f'{name}.py'
    options = NANO | FEW_IMAGES | TEST_SCALE | DETECTORS[name]
    meta, metrics = run(config, tmp_path / 'work', options, lengths=EPOCHS)
    assert (meta['epoch'], meta['iter']) == (2, 2)
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert ('coco/segm_mAP' in metrics) == name.startswith('mask')


def write_voc(root, shapes):
    """Write shapes as VOC 2007 and 2012: JPEG images, XML, image lists; named like three of VOC's classes."""
    content = json.loads((shapes / 'annotations' / 'instances_train.json').read_text())
    names = [image['file_name'].removesuffix('.png') for image in content['images']]
    for folder in (root / 'VOC2007', root / 'VOC2012'):
        for subfolder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
            (folder / subfolder).mkdir(parents=True)
        for name, image in zip(names, content['images'], strict=True):
            pixels = Image.open(shapes / 'images' / 'train' / image['file_name'])
            pixels.save(folder / 'JPEGImages' / f'{name}.jpg')
            size = f'<width>{image["width"]}</width><height>{image["height"]}</height><depth>3</depth>'
            objects = [voc_object(a) for a in content['annotations'] if a['image_id'] == image['id']]
            xml = f'<annotation><size>{size}</size>{"".join(objects)}</annotation>'
            (folder / 'Annotations' / f'{name}.xml').write_text(xml)
        for split in ('trainval', 'test'):
            (folder / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return root


def voc_object(annotation):
    name = {1: 'car', 2: 'cat', 3: 'dog'}[annotation['category_id']]
    x, y, w, h = annotation['bbox']
    box = f'<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>'
    return f'<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>'


@pytest.mark.long
def test_faster_rcnn_on_voc(tmp_path, monkeypatch):
    shapes = make_shapes(tmp_path / 'shapes', train=1, val=1, size=(96, 128))
    monkeypatch.setenv('VOC_ROOT', str(write_voc(tmp_path / 'VOCdevkit', shapes)))
    options = NANO | HEADS | TEST_SCALE | VAL_SCALE | FEW_REGIONS
    options |= {f'train_dataloader.dataset.dataset.datasets.{i}.pipeline.2.scale': SMALL for i in (0, 1)}
    config = ROOT / 'configs' / 'faster-rcnn_fastervit0_voc0712.py'
    meta, metrics = run(config, tmp_path / 'work', options, lengths=EPOCHS)
    assert (meta['epoch'], meta['iter']) == (2, 2 * 3)  # 3 repeats of 1 + 1 images, 2 per batch
    assert 0 <= metrics['pascal_voc/mAP'] <= 1


ITERATIONS = [
    {'train_cfg.max_iters': n, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2}
    for n in (2, 4)
]
CROPS = {
    'train_dataloader.dataset.pipeline.2.scale': (512, 128),
    'train_dataloader.dataset.pipeline.3.crop_size': (128, 128),
    'model.data_preprocessor.size': (128, 128),
    'val_dataloader.dataset.pipeline.1.scale': (512, 128),
    'test_dataloader.dataset.pipeline.1.scale': (512, 128),
}
#: TTA with two distinct scales instead of six.
FEWER_SCALES = {f'tta_pipeline.1.transforms.0.{i}.scale': (512, 96 if i % 2 else 128) for i in range(6)}
UPERNET_HEADS = {
    'model.decode_head.in_channels': [32, 64, 128, 256],
    'model.auxiliary_head.in_channels': 128,
    'model.decode_head.channels': 32,
}
SEGMENTERS = {'upernet_fastervit2_160k': CROPS | UPERNET_HEADS, 'fpn_fastervit1_40k': CROPS | HEADS}


@pytest.mark.slow  # CamVid is the quick one
@pytest.mark.realdata
@pytest.mark.parametrize('name', ['fpn_fastervit1_40k', 'upernet_fastervit2_160k'])
def test_segmenters_on_ade20k(name, real_data, tmp_path, monkeypatch):
    """One training image; label 0 is ignored, and 150 classes are learned."""
    monkeypatch.setenv('ADE_ROOT', str(real_data / 'ADEChallengeData2016'))
    config = ROOT / 'configs' / f'{name}.py'
    meta, metrics = run(config, tmp_path / 'work', NANO | SEGMENTERS[name], lengths=ITERATIONS)
    assert meta['iter'] == 4 and len(meta['dataset_meta']['classes']) == 150
    assert 0 <= metrics['mIoU'] <= 100
    options = NANO | SEGMENTERS[name] | TEST_QUICK | FEWER_SCALES
    averaged = evaluate(config, tmp_path / 'work', work_dir=tmp_path / 'tta', tta=True, options=options)
    assert 0 <= averaged['mIoU'] <= 100 and averaged != metrics


CAMVID = tuple('sky building pole road pavement tree sign fence car pedestrian bicyclist'.split())


def camvid_config(path, base, root, **dataset):
    """Write the config of a user with folders of label maps, as in ``docs/data.md``."""
    extra = ''.join(f', {k}={v!r}' for k, v in dataset.items())
    path.write_text(
        f'_base_ = {str(ROOT / "configs" / base)!r}\n'
        f'metainfo = dict(classes={CAMVID})\n'
        f"data = dict(_delete_=True, type='LabelMapDataset', data_root={str(root)!r}, "
        f'metainfo=metainfo{extra})\n'
        "train_prefix = dict(img_path='images/training', seg_map_path='annotations/training')\n"
        "val_prefix = dict(img_path='images/validation', seg_map_path='annotations/validation')\n"
        'train_dataloader = dict(dataset=dict(**data, data_prefix=train_prefix, '
        'pipeline={{_base_.train_pipeline}}))\n'
        'val_dataloader = dict(dataset=dict(**data, data_prefix=val_prefix, '
        'pipeline={{_base_.test_pipeline}}))\n'
        'test_dataloader = val_dataloader\n'
    )
    return path


@pytest.mark.realdata
@pytest.mark.parametrize(
    'name', ['upernet_fastervit2_160k', pytest.param('fpn_fastervit1_40k', marks=pytest.mark.slow)]
)
def test_segmenters_on_camvid(name, real_data, tmp_path, capsys):
    """The data set's void label 11 is ignored by loss and metrics, and 11 classes are learned."""
    config = camvid_config(tmp_path / 'camvid.py', f'{name}.py', real_data / 'camvid_mini', ignore_index=11)
    few_images = {'val_dataloader.dataset.indices': 2, 'test_dataloader.dataset.indices': 2}
    meta, metrics = run(config, tmp_path / 'work', NANO | SEGMENTERS[name] | few_images, lengths=ITERATIONS)
    assert meta['iter'] == 4 and meta['dataset_meta']['classes'] == CAMVID
    assert 'num_classes 150 -> 11' in capsys.readouterr().out
    assert 0 <= metrics['mIoU'] <= 100


@MODELS.register_module()
class RolledTruth(BaseModel):
    """Predicts the ground truth, rolled by 8 pixels down and right; ignored pixels as the first class."""

    def __init__(self, data_preprocessor):
        super().__init__(data_preprocessor=dict(data_preprocessor, type='SegDataPreProcessor'))
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        for sample in data_samples:
            rolled = torch.roll(sample.gt_sem_seg.data, (8, 8), dims=(1, 2))
            sample.pred_sem_seg = PixelData(data=torch.where(rolled == 255, 0, rolled))
        return data_samples


@pytest.mark.realdata
def test_known_miou_of_ade20k(real_data, tmp_path, monkeypatch):
    """Our test pipeline gives the metrics of the data set's own toolkit for a deterministic prediction."""
    root = real_data / 'ADEChallengeData2016'
    known = json.loads((root / 'known_answer_miou.json').read_text())
    monkeypatch.setenv('ADE_ROOT', str(root))
    config = tmp_path / 'rolled.py'
    base = ROOT / 'configs' / 'upernet_fastervit0_160k.py'
    config.write_text(f"_base_ = {str(base)!r}\nmodel = dict(_delete_=True, type='RolledTruth')\n")
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), tmp_path / 'rolled.pth')
    metrics = evaluate(config, tmp_path / 'rolled.pth', work_dir=tmp_path / 'work', options=TEST_QUICK)
    # mmseg rounds to two decimals
    assert metrics['mIoU'] == pytest.approx(known['mIoU_present_classes'], abs=0.006)
    assert metrics['aAcc'] == pytest.approx(known['pixel_acc'], abs=0.006)


def test_pictures_and_predictions(tmp_path, monkeypatch):
    root = make_shapes(tmp_path / 'shapes', train=2, val=2, size=(96, 128))
    monkeypatch.setenv('SHAPES_ROOT', str(root))
    config = ROOT / 'configs' / 'demo' / 'fpn_shapes.py'
    train(config, work_dir=tmp_path / 'work', options=QUICK | ITERATIONS[0])
    folders = dict(work_dir=tmp_path / 'test', show_dir=tmp_path / 'pictures')
    for out in ('out.pkl', 'out.json'):
        evaluate(config, tmp_path / 'work', **folders, out=tmp_path / out, options=TEST_QUICK)
    assert {p.name for p in (tmp_path / 'pictures').iterdir()} == {'000001.png', '000002.png', 'overview.png'}
    with Image.open(tmp_path / 'pictures' / '000001.png') as drawn:
        assert drawn.size == (2 * 640, 480)  # enlarged; ground truth left, prediction right
    assert json.loads((tmp_path / 'out.json').read_text())['metrics'].keys() >= {'mIoU', 'aAcc'}
    assert (tmp_path / 'out.pkl').stat().st_size
    assert len(CLASSES) == 3
