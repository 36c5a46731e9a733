"""Every config loads, is short, fits its backbone, and trains and predicts with the nano backbone instead."""

import runpy
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import fastervit_backbone  # noqa: F401 (before any config is read: it lets mmengine find mmseg's)
from fastervit_backbone.engine.config.channels import check_channels
from fastervit_backbone.engine.config.reading import as_list, leaf_datasets
from fastervit_backbone.recipes import learns_masks
from tests.helpers import ROOT
from tests.mm_helpers import (
    build,
    check_detector,
    check_segmenter,
    load,
    semantic_batch,
    with_less_work,
    with_nano,
)

LEAVES = sorted(p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts)
CLASSIFIERS = [p for p in LEAVES if p.stem.startswith(('imagenet', 'cifar10'))]
DENSE = [p for p in LEAVES if p not in CLASSIFIERS]
#: One config of each family for loss and predict; the others of a family differ only in numbers.
FAST = (
    *('cascade_fastervit4_3x', 'cascade_shapes', 'dino_fastervit4_21k_384_36e', 'dino_shapes'),
    *('mask-rcnn_fastervit2_1x', 'retinanet_fastervit0_1x', 'faster-rcnn_fastervit0_voc0712'),
    *('upernet_fastervit4_160k', 'upernet_shapes', 'upernet_convnext-t_160k'),
    *('fpn_fastervit2_40k', 'fpn_shapes'),
    *('mask2former_shapes', 'rtmdet-ins_shapes', 'mask2former-semantic_shapes'),
)


def names(paths):
    return [str(p.relative_to(ROOT / 'configs')) for p in paths]


every_leaf = pytest.mark.parametrize('path', LEAVES, ids=names(LEAVES))
every_dense_leaf = pytest.mark.parametrize('path', DENSE, ids=names(DENSE))


def test_all_documented_configs_exist():
    existing = set(names(LEAVES))
    assert existing >= {f'cascade_fastervit{v}_3x.py' for v in ('0', '1', '2', '3', '4', '4_21k_384')}
    for dino in ('dino', 'dino-5scale'):
        assert existing >= {f'{dino}_fastervit{v}_12e.py' for v in '01234'} | {
            f'{dino}_fastervit4_21k_384_{e}e.py' for e in (12, 24, 36)
        }
    assert existing >= {f'upernet_fastervit{v}_160k.py' for v in '01234'} | {
        f'fpn_fastervit{v}_40k.py' for v in '012'
    }
    assert existing >= {
        'mask-rcnn_fastervit0_1x.py',
        'mask-rcnn_fastervit2_1x.py',
        'retinanet_fastervit0_1x.py',
        'atss_fastervit0_1x.py',
        'rtmdet-ins_fastervit0_300e.py',
        'cascade_fastervit2_lsj_100e.py',
        'dino_fastervit4_21k_224_12e.py',
        *(f'mask2former_fastervit{v}_50e.py' for v in '024'),
        *(f'mask2former-semantic_fastervit{v}_160k.py' for v in '024'),
    }
    assert existing >= {'faster-rcnn_fastervit0_voc0712.py'} | {
        f'demo/{h}_shapes.py' for h in ('cascade', 'dino', 'upernet', 'fpn')
    }
    peers = [f'{b}-{s}' for b in ('swin', 'convnext') for s in 'tsb']
    assert existing >= {f'baselines/cascade_{p}_3x.py' for p in ('deit-s', 'x101-32x4d', 'x101-64x4d')} | {
        *(f'baselines/upernet_twins-svt-{s}_160k.py' for s in 'bl'),
        'baselines/faster-rcnn-c4_r50_voc0712.py',
    }
    assert existing >= {f'baselines/cascade_{p}_3x.py' for p in peers} | {
        f'baselines/upernet_{p}_160k.py' for p in peers
    }
    assert existing >= {
        f'baselines/fpn_{p}_40k.py' for p in ('poolformer-s36', 'poolformer-m36', 'pvt-v2-b2', 'pvt-v2-b3')
    }
    assert existing >= {
        *(f'classification/imagenet_fastervit{v}_300e.py' for v in '0123456'),
        *(f'classification/imagenet_fastervit{v}_w{w}.py' for v in '24' for w in (8, 12, 16, 24)),
        *(f'classification/{name}.py' for name in ('imagenet21k_fastervit4_90e', 'cifar10_fastervit0_head')),
    }
    assert existing >= {'baselines/dino_swin-l_36e.py', 'baselines/dino-5scale_swin-l_36e.py'}


@every_leaf
def test_a_config_is_a_base_plus_a_difference(path):
    config = load(path)
    assert len(path.read_text().splitlines()) <= 40
    assert (
        'fastervit_backbone' in config.custom_imports['imports']
        and not config.custom_imports['allow_failed_imports']
    )
    for key in ('train', 'val', 'test'):
        assert (
            config[f'{key}_dataloader']
            and config[f'{key}_cfg']
            and (key == 'train' or config[f'{key}_evaluator'])
        )
    assert (
        config.optim_wrapper.optimizer.type in ('AdamW', 'Lamb', 'SGD')
        and config.auto_scale_lr.base_batch_size
    )


_BUILT = {}


def built(backbone):
    """Build a backbone, once for all configs that have it, and its maps of an image of 256x384."""
    options = {k: v for k, v in backbone.items() if k != 'init_cfg'}
    if repr(options) not in _BUILT:
        net = MODELS.build(options)
        _BUILT[repr(options)] = net, net(torch.empty(1, 3, 256, 384))
    return _BUILT[repr(options)]


@pytest.mark.short('fastervit', 'demo', 'swin-t', 'resnet')
@every_dense_leaf
def test_channels_and_strides_are_the_backbones(path):
    """Necks, heads, anchors and RoI extractors expect what the backbone declares (a baseline's: emits)."""
    config = load(path)
    check_channels(config)
    init_default_scope(config.default_scope)
    model = config.model
    ours = model.backbone.type in ('FasterViT', 'TimmBackbone')
    device = 'meta' if ours else 'cpu'  # mmdet's and mmseg's Swin cannot be built on meta
    with torch.device(device), torch.no_grad():
        net, maps = built(model.backbone)
        necks = as_list(model.get('neck'))
        for extra in necks[:-1]:  # DeiT's, which makes a pyramid
            maps = MODELS.build(extra).eval()(maps)
    channels, strides = tuple(m.shape[1] for m in maps), tuple(256 // m.shape[2] for m in maps)
    assert strides == tuple(384 // m.shape[3] for m in maps)
    if ours:
        assert (tuple(net.out_channels), tuple(net.out_strides)) == (channels, strides)
    heads = ('decode_head', 'auxiliary_head', 'panoptic_head')
    readers = necks[-1:] or [head for name in heads for head in as_list(model.get(name))]
    for reader in readers or [model.rpn_head]:  # ResNet-50-C4 has no neck
        indices = reader.get('in_index', range(len(channels)))
        expected = channels[indices] if isinstance(indices, int) else [channels[i] for i in indices]
        assert as_list(reader.in_channels) == as_list(expected)
    if 'roi_head' in model:
        assert tuple(model.rpn_head.anchor_generator.strides[: len(strides)]) == strides
        assert tuple(model.roi_head.bbox_roi_extractor.featmap_strides) == strides
    elif 'bbox_head' in model and 'anchor_generator' in model.bbox_head:
        assert tuple(model.bbox_head.anchor_generator.strides[: len(strides)]) == strides
    elif model.type == 'DINO':
        levels = {
            model.neck.num_outs,
            model.get('num_feature_levels', 4),
            model.encoder.layer_cfg.self_attn_cfg.num_levels,
        }
        assert (
            levels == {model.decoder.layer_cfg.cross_attn_cfg.num_levels}
            and 0 <= model.neck.num_outs - len(channels) <= 1
        )
    elif readers and 'strides' in readers[0]:  # Mask2Former
        assert tuple(readers[0].strides) == strides
    elif 'feature_strides' in model.decode_head:
        assert tuple(model.decode_head.feature_strides) == strides


@pytest.mark.parametrize('variant', ['0', '1', '2', '3', '4', '4_21k_384'])
def test_the_papers_cascade(variant, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/somewhere/coco')
    config = Config.fromfile(ROOT / 'configs' / f'cascade_fastervit{variant}_3x.py')
    backbone, optimizer = config.model.backbone, config.optim_wrapper.optimizer
    assert backbone.arch == variant and backbone.norm_eval
    assert f'fastervit_{variant.split("_384")[0]}_' in backbone.init_cfg.checkpoint
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert config.auto_scale_lr.base_batch_size == 16 and config.train_cfg.max_epochs == 36
    assert config.param_scheduler[1].milestones == [27, 33]
    heads = config.model.roi_head.bbox_head
    assert all((h.num_shared_convs, h.num_shared_fcs, h.loss_bbox.type) == (4, 1, 'GIoULoss') for h in heads)
    assert_multi_scale_with_crop(config)
    assert_data_root(config, '/somewhere/coco/')
    assert (
        config.val_evaluator.ann_file
        == config.test_evaluator.ann_file
        == '/somewhere/coco/annotations/instances_val2017.json'
    )


def assert_multi_scale_with_crop(config):
    choice = next(t for t in config.train_dataloader.dataset.pipeline if t.type == 'RandomChoice')
    assert any(t.type == 'RandomCrop' for t in choice.transforms[1])
    shorter = [min(s) for t in choice.transforms[0] for s in t.scales]
    assert min(shorter) == 480 and max(shorter) == 800


def assert_data_root(config, root):
    for split in ('train', 'val', 'test'):
        assert {d.data_root for d in leaf_datasets(config[f'{split}_dataloader'].dataset)} == {root}


@pytest.mark.parametrize('scales', ['dino', 'dino-5scale'])
@pytest.mark.parametrize(
    ('name', 'epochs', 'decay'),
    [('4_12e', 12, 11), *((f'4_21k_384_{e}e', e, d) for e, d in ((12, 11), (24, 20), (36, 30)))],
)
def test_the_papers_dino(scales, name, epochs, decay, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/somewhere/coco')
    config = Config.fromfile(ROOT / 'configs' / f'{scales}_fastervit{name}.py')
    optimizer = config.optim_wrapper
    assert (config.model.num_queries, config.train_cfg.max_epochs, config.auto_scale_lr.base_batch_size) == (
        900,
        epochs,
        16,
    )
    assert (optimizer.optimizer.lr, optimizer.optimizer.weight_decay, optimizer.clip_grad.max_norm) == (
        1e-4,
        1e-4,
        0.1,
    )
    assert optimizer.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
    assert [(s.end, s.milestones) for s in config.param_scheduler] == [(epochs, [decay])]
    assert len(config.model.backbone.out_indices) == (4 if scales == 'dino-5scale' else 3)
    assert config.model.backbone.init_cfg.checkpoint.endswith(
        '_w24.pth.tar' if '21k' in name else '_224_1k.pth.tar'
    )
    assert_multi_scale_with_crop(config)
    assert_data_root(config, '/somewhere/coco/')


@pytest.mark.parametrize('variant', '01234')
def test_the_papers_upernet(variant, monkeypatch):
    monkeypatch.setenv('ADE_ROOT', '/somewhere/ade')
    config = Config.fromfile(ROOT / 'configs' / f'upernet_fastervit{variant}_160k.py')
    optimizer = config.optim_wrapper.optimizer
    assert config.model.backbone.arch == variant
    assert (optimizer.lr, optimizer.weight_decay, config.auto_scale_lr.base_batch_size) == (6e-5, 0.01, 16)
    assert config.train_cfg.max_iters == 160000 and config.train_dataloader.batch_size * 8 == 16
    warm_up, poly = config.param_scheduler
    assert (warm_up.type, warm_up.end, poly.type, poly.begin, poly.end, poly.power) == (
        'LinearLR',
        1500,
        'PolyLR',
        1500,
        160000,
        1.0,
    )
    assert (config.model.auxiliary_head.type, config.model.auxiliary_head.loss_decode.loss_weight) == (
        'FCNHead',
        0.4,
    )
    assert config.model.decode_head.num_classes == config.model.auxiliary_head.num_classes == 150
    assert next(t for t in config.train_dataloader.dataset.pipeline if t.type == 'RandomCrop').crop_size == (
        512,
        512,
    )
    assert config.tta_model.type == 'SegTTAModel' and [
        t.scale for t in config.tta_pipeline[1].transforms[0]
    ] == [(int(2048 * r), int(512 * r)) for r in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)]
    assert_data_root(config, '/somewhere/ade')


@pytest.mark.parametrize('variant', '012')
def test_poolformers_fpn_recipe(variant):
    config = load(ROOT / 'configs' / f'fpn_fastervit{variant}_40k.py')
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, config.auto_scale_lr.base_batch_size) == (2e-4, 1e-4, 32)
    assert config.train_cfg.max_iters == 40000 and config.train_dataloader.batch_size * 8 == 32
    assert [(s.type, s.power, s.end) for s in config.param_scheduler] == [('PolyLR', 0.9, 40000)]
    assert config.model.decode_head.num_classes == 150 and config.tta_pipeline


def test_baselines_differ_only_in_the_backbone():
    """Heads, data, schedule and optimizer are ours: any difference in cost is due to the backbone."""
    pairs = [('cascade_{}_3x', 'fastervit2', b) for b in ('swin-t', 'swin-b', 'convnext-t', 'convnext-b')]
    pairs += [('upernet_{}_160k', 'fastervit2', b) for b in ('swin-s', 'convnext-s')]
    pairs += [(d + '_{}_36e', 'fastervit4_21k_384', 'swin-l') for d in ('dino', 'dino-5scale')]
    pairs += [('fpn_{}_40k', 'fastervit1', b) for b in ('poolformer-s36', 'pvt-v2-b2')]
    for pattern, ours, theirs in pairs:
        a = load(ROOT / 'configs' / f'{pattern.format(ours)}.py').to_dict()
        b = load(ROOT / 'configs' / 'baselines' / f'{pattern.format(theirs)}.py').to_dict()
        for config in (a, b):
            del config['model']['backbone']
            for part in ('neck', 'decode_head', 'auxiliary_head'):
                if config['model'].get(part):
                    config['model'][part].pop('in_channels')
        assert a == b, theirs


@pytest.mark.short('fastervit0', 'fastervit1', 'fastervit2', 'demo', 'convnext')
@pytest.mark.parametrize(
    'path',
    [p if p.stem in FAST else pytest.param(p, marks=pytest.mark.slow) for p in DENSE],
    ids=names(DENSE),
)
def test_loss_and_predict_with_nano(path):
    """A mixed batch (H != W), then one without any object or label; then prediction."""
    config = with_less_work(with_nano(load(path)))
    model = build(config)
    if config.default_scope == 'mmseg':
        check_segmenter(model, config.model.decode_head.num_classes)
    else:
        check_detector(model, learns_masks(config.model))


@pytest.mark.slow
@every_dense_leaf
def test_whole_model_predicts(path):
    """The full arch, one small image."""
    config = load(path)
    model = build(config).eval()
    if config.default_scope == 'mmseg':
        batch = semantic_batch(config.model.decode_head.num_classes)
    else:
        batch = demo_mm_inputs(1, [[3, 256, 320]], num_items=[1], with_mask=True)
    with torch.no_grad():
        result = model(**model.data_preprocessor(batch, training=False), mode='predict')[0]
    assert 'pred_sem_seg' in result or result.pred_instances.bboxes.shape[1] == 4


@pytest.mark.short('fastervit0', 'fastervit4', 'nano', 'swin-t')
@pytest.mark.parametrize('path', CLASSIFIERS, ids=names(CLASSIFIERS))
def test_classifiers_fit_their_backbones(path):
    config = load(path)
    check_channels(config)
    init_default_scope('mmpretrain')
    model, head = config.model, config.model.head
    assert head.num_classes == model.data_preprocessor.num_classes
    if model.backbone.type == 'FasterViT':
        assert model.backbone.out_indices == (3,) and model.backbone.out_norm == 'bn'
        with torch.device('meta'):
            net = MODELS.build(model.backbone)
            assert net(torch.empty(1, 3, 96, 128))[0].shape == (1, head.in_channels, 3, 4)
    elif model.backbone.type != 'TimmBackbone':
        assert head.in_channels == {'t': 768, 's': 768, 'b': 1024}[path.stem.split('_')[1][-1]]
    sizes = {t.get('crop_size', t.get('scale')) for t in config.val_dataloader.dataset.pipeline[1:-1]}
    assert max(s if isinstance(s, int) else max(s) for s in sizes) >= 64
    schedule = config.param_scheduler[-1]
    assert schedule.type == 'CosineAnnealingLR'
    assert schedule.get('end', config.train_cfg.max_epochs) <= config.train_cfg.max_epochs


@pytest.mark.parametrize('variant', '0123456')
def test_the_papers_imagenet(variant, monkeypatch):
    monkeypatch.setenv('IMAGENET_ROOT', '/somewhere/imagenet')
    config = Config.fromfile(ROOT / 'configs' / 'classification' / f'imagenet_fastervit{variant}_300e.py')
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, config.auto_scale_lr.base_batch_size) == ('Lamb', 5e-3, 4096)
    warmup, cosine = config.param_scheduler
    assert warmup.start_factor * optimizer.lr == pytest.approx(1e-6) and warmup.end == cosine.begin
    assert (cosine.end, cosine.eta_min, config.train_cfg.max_epochs) == (300, 5e-6, 310)
    assert cosine.T_max == cosine.end - cosine.begin
    average, mesa = config.custom_hooks
    assert average.momentum == pytest.approx(1 - 0.9998) and average.update_buffers
    assert (mesa.start, mesa.epochs) == (0.25, 300)
    assert config.model.coefficient == dict(zip('0123456', (0.25, 0.5, 1, 1, 3, 5, 5), strict=True))[variant]
    assert_data_root(config, '/somewhere/imagenet')


def test_only_the_backbone_of_the_classified_baselines_differs():
    pairs = [(f'imagenet_{peer}_300e', 'imagenet_fastervit0_300e') for peer in ('swin-t', 'convnext-t')]
    pairs += [('cifar10_swin-t', 'cifar10_fastervit0'), ('cifar10_resnet18', 'cifar10_nano')]
    pairs += [(f'imagenet_swinv2-t_w{w}', f'imagenet_fastervit2_w{w}') for w in (8, 12, 16, 24)]
    for theirs, ours in pairs:
        a = load(ROOT / 'configs' / 'classification' / f'{ours}.py').to_dict()
        b = load(ROOT / 'configs' / 'baselines' / f'{theirs}.py').to_dict()
        for config in (a, b):
            del config['model']['backbone'], config['model']['head']['in_channels']
            for key in ('load_from', 'model.neck', 'model.coefficient', 'test_pipeline'):
                *parents, last = key.split('.')
                part = config[parents[0]] if parents else config
                part.pop(last, None)
            for split in ('val', 'test'):  # each model has its own crop
                config[f'{split}_dataloader']['dataset'].pop('pipeline')
        assert a == b, theirs


def test_roi_align_reads_what_the_backbone_emits():
    """mmcv's RoIAlign ignores strides and needs contiguous maps: after the neck it equals torchvision's."""
    roi_align = pytest.importorskip('torchvision').ops.roi_align
    model = build(load(ROOT / 'configs' / 'demo' / 'cascade_shapes.py'))
    rois = torch.tensor([[0, 25.0, 86.0, 89.0, 144.0], [1, 10.0, 10.0, 30.0, 60.0]])
    with torch.no_grad():
        maps = model.neck(model.backbone(torch.randn(2, 3, 160, 192)))
        extractor = model.roi_head.bbox_roi_extractor[0]
        level = extractor.map_roi_levels(rois, 4)
        ours = extractor(maps[:4], rois)
        for i, roi in enumerate(rois):
            m = maps[level[i]]
            expected = roi_align(
                m,
                roi[None],
                7,
                1 / extractor.featmap_strides[level[i]],
                extractor.roi_layers[0].sampling_ratio or -1,
                True,
            )
            torch.testing.assert_close(ours[i : i + 1], expected, rtol=1e-4, atol=1e-4)


def test_semantic_fpn_is_tested_like_its_recipe():
    """The test pipeline is mmseg's for PoolFormer, with sides that are multiples of 32 pixels."""
    import mmseg

    folder = Path(mmseg.__file__).parent / '.mim' / 'configs' / 'poolformer'
    # run as a script, because loading it as a config would need mmpretrain
    config = runpy.run_path(str(folder / 'fpn_poolformer_s12_8xb4-40k_ade20k-512x512.py'))
    theirs = config['test_pipeline']
    assert dict(type='ResizeToMultiple', size_divisor=32) in theirs
    for name in ('fpn_fastervit0_40k', 'baselines/fpn_poolformer-s36_40k'):
        ours = Config.fromfile(ROOT / 'configs' / f'{name}.py').to_dict()
        for split in ('val', 'test'):
            assert ours[f'{split}_dataloader']['dataset']['pipeline'] == theirs
