"""Fine-tuning: the plan, the config it writes, and the errors it reports."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('supervision')

from mmengine.config import Config
from PIL import Image

from fastervit_backbone import FasterViT
from fastervit_backbone.datasets.dataset import named_splits
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.finetune import finetune, memory, run
from fastervit_backbone.finetune.describe import describe
from fastervit_backbone.finetune.flat_config import build_config, config_text
from fastervit_backbone.finetune.memory import free_memory, training_bytes
from fastervit_backbone.finetune.plan import PRESETS, find_base, make_plan
from fastervit_backbone.finetune.read_data import read_training_data
from fastervit_backbone.finetune.training_data import TrainingData
from fastervit_backbone.inference import Predictor
from fastervit_backbone.recipes import RECIPES
from fastervit_backbone.utils.errors import DownloadError, UserError
from tests.helpers import CASCADE, assert_one_line_error
from tests.mm_helpers import save_untrained
from tests.processes import verb

SPLITS = ('train', 'val')


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=6, val=3, size=(64, 96))


def own_data(train, val, images, **options):
    return read_training_data(
        named_splits(dict(train=train, val=val), images), Path('out'), write=False, **options
    )


def coco_arguments(root):
    train, val = (root / 'annotations' / f'instances_{split}.json' for split in SPLITS)
    return dict(train=train, val=val, images=[root / 'images' / split for split in SPLITS])


def label_arguments(root):
    train, val = (root / 'labels' / split for split in SPLITS)
    images = [root / 'images' / split for split in SPLITS]
    return dict(train=train, val=val, images=images, classes=['background', 'circle', 'square', 'triangle'])


def command_line(train, val, images, classes=()):
    options = ['--train', train, '--val', val, '--images', *images, '--arch', 'nano']
    return [*options, '--classes', *classes] if classes else options


def fake_data(num_images=500, has_masks=True, size=(480, 640), kind='coco'):
    return TrainingData(
        kind=kind,
        train=Path('t'),
        val=Path('v'),
        image_folders=(Path('i'), Path('i')),
        classes=['a', 'b'],
        has_masks=has_masks,
        num_images=num_images,
        num_empty=3,
        median_size=size,
    )


def test_the_plan_follows_data_and_preset():
    made = make_plan(fake_data(500), model='cascade', arch='0', batch=4)
    standard = PRESETS['standard']
    nano = make_plan(fake_data(500), model='cascade', arch='nano', batch=4)
    assert (nano.start, describe(nano, fake_data(500))['start']) == (
        'published',
        'weights of 200 classes of ImageNet (ours)',
    )
    assert made.epochs == max(standard.min_epochs, standard.min_steps // 125)
    assert made.size == (480, 640) and made.ema_momentum > 0
    assert (made.frozen_stages, made.decay_rate, made.start) == (1, 0.85, 'published')
    assert make_plan(fake_data(40), model='cascade', arch='0', batch=4, epochs=2).ema_momentum is None
    assert make_plan(fake_data(3000), model='cascade', arch='0', batch=4).frozen_stages == 0
    assert make_plan(fake_data(9000), model='cascade', arch='0', batch=4).decay_rate == 1.0
    scratch = make_plan(fake_data(500), model='cascade', arch='0', batch=4, start='nothing')
    assert (scratch.frozen_stages, scratch.decay_rate) == (-1, 1.0)
    whole = make_plan(fake_data(500), model='cascade', arch='0', batch=4, tune='all')
    assert (whole.frozen_stages, whole.decay_rate) == (-1, 0.85)
    heads = make_plan(fake_data(9000), model='cascade', arch='0', batch=4, tune='heads')
    assert heads.frozen_stages == 4 and 'the backbone is frozen' in ' '.join(heads.reasons)
    with pytest.raises(UserError, match='a frozen backbone needs trained weights'):
        make_plan(fake_data(500), model='cascade', arch='0', batch=4, tune='heads', start='nothing')
    large = fake_data(size=(3000, 4000))
    assert make_plan(large, model='cascade', arch='0', batch=1).size == (800, 1056)
    assert make_plan(large, model='cascade', arch='nano', batch=1).size == (384, 544)
    wide = fake_data(kind='labels', size=(300, 2000))
    assert make_plan(wide, model='fpn', arch='0', batch=2).size == (64, 512)
    assert make_plan(fake_data(3), model='cascade', arch='0', batch=16).batch_size == 3
    assert make_plan(fake_data(40), model='dino', arch='nano', batch=4, epochs=2).val_interval == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(model='fpn'), 'learns from label-map folders'),
        (dict(model='cascade', arch='9'), 'cascade supports --arch 0, 1, 2, 3, 4, nano'),
        (dict(model='mask-rcnn', arch='nano'), 'mask-rcnn supports --arch 0, 2'),
        (dict(model='cascade', batch=0), '--batch 0 of 500 images: cascade needs at least 1'),
        (dict(model='cascade', epochs=0), '--epochs 0: must be at least 1'),
    ],
)
def test_impossible_plans(arguments, message):
    with pytest.raises(UserError, match=message):
        make_plan(fake_data(), **(dict(arch='0', batch=2) | arguments))
    with pytest.raises(UserError, match='--batch 1 of 500 images: upernet needs at least 2'):
        make_plan(fake_data(kind='labels'), model='upernet', arch='0', batch=1)
    with pytest.raises(UserError, match='learns masks, but some objects in t or v have none'):
        make_plan(fake_data(has_masks=False), model='mask-rcnn', arch='0', batch=1)


def test_memory_is_found_without_computing():
    """The estimate on the meta device against what a real image keeps for the backward pass."""
    kept = {}
    net = FasterViT('nano').train()
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = net(torch.zeros(1, 3, 160, 224))
    real = sum(size for pointer, (size, _) in kept.items() if pointer not in weights)
    estimate, parameters = training_bytes('nano', (160, 224))
    assert parameters == sum(p.numel() for p in net.parameters()) and len(maps) == 4
    assert estimate == pytest.approx(real, rel=0.15)
    small, large = (training_bytes('0', size)[0] for size in ((160, 224), (320, 448)))
    assert large / small == pytest.approx(4, rel=0.2)


def test_every_model_has_its_configs():
    for model in RECIPES:
        assert find_base(model, '0').is_file()
    assert find_base('fpn', 'nano').name == 'fpn_shapes.py'


@pytest.mark.short('rtmdet-ins')
@pytest.mark.parametrize('model', ['mask2former', 'rtmdet-ins', 'mask2former-semantic'])
def test_query_and_dense_heads_learn_other_classes(model, shapes, tmp_path):
    """Two classes instead of the base config's; trained, evaluated, and loaded for prediction."""
    arguments = coco_arguments(shapes)
    if model == 'mask2former-semantic':
        arguments = label_arguments(shapes)
        arguments['classes'] = [*arguments['classes'], 'hexagon']
    else:
        for split in SPLITS:
            content = json.loads(arguments[split].read_text())
            content['categories'] = content['categories'][:2]
            ids = {c['id'] for c in content['categories']}
            content['annotations'] = [a for a in content['annotations'] if a['category_id'] in ids]
            arguments[split] = tmp_path / f'{split}.json'
            arguments[split].write_text(json.dumps(content))
    result = finetune(**arguments, model=model, arch='nano', epochs=1, batch=2, work_dir=tmp_path / 'run')
    predictor = Predictor(result.config, result.best, threshold=0)
    prediction = predictor(sorted((shapes / 'images' / 'val').glob('*.png'))[:1])[0]
    if model == 'mask2former-semantic':
        assert len(predictor.categories.names) == 5 and prediction.label_map.shape == (64, 96)
        assert predictor.config.model.decode_head.loss_cls.class_weight == [1.0] * 5 + [0.1]
    else:
        assert len(predictor.categories.names) == 2 and set(prediction.labels) <= {0, 1}
        assert prediction.masks is not None and len(prediction) > 5
    if model == 'mask2former':
        head = predictor.config.model.panoptic_head
        assert (head.num_things_classes, head.loss_cls.class_weight) == (2, [1.0, 1.0, 0.1])
        assert predictor.config.model.panoptic_fusion_head.num_things_classes == 2


def test_mask2former_keeps_the_rates_of_its_recipe(shapes, tmp_path):
    options = dict(
        model='mask2former', arch='0', start='nothing', config_only=True, work_dir=tmp_path / 'run'
    )
    made = finetune(**coco_arguments(shapes), **options)
    rule = Config.fromfile(made.config).optim_wrapper.paramwise_cfg
    assert (rule.backbone_lr_mult, rule.decay_embeddings) == (0.1, False) and 0 < rule.decay_rate <= 1


@pytest.mark.parametrize('masks', [True, False])
def test_the_config_of_detectors(masks, shapes):
    data = own_data(**coco_arguments(shapes))
    assert (data.num_images, data.has_masks, data.median_size) == (6, True, (64, 96))
    assert data.classes == ['circle', 'square', 'triangle']
    data.has_masks = masks
    config = build_config(data, make_plan(data, model='cascade', arch='2', batch=4), seed=5)
    assert [part.sampler.num for part in config.model.train_cfg.rcnn] == [512] * 3
    data.crowd = 20  # of 64 regions a quarter would be too few
    small = build_config(data, make_plan(data, model='cascade', arch='nano', batch=4), seed=5)
    assert [part.sampler.num for part in small.model.train_cfg.rcnn] == [128] * 3
    assert ('mask_head' in config.model.roi_head) == masks
    assert config.train_dataloader.dataset.pipeline[1].with_mask == masks
    assert config.val_evaluator.metric == (['bbox', 'segm'] if masks else ['bbox'])
    assert config.default_hooks.checkpoint.save_best == ('coco/segm_mAP' if masks else 'coco/bbox_mAP')
    assert config.optim_wrapper.optimizer.lr == pytest.approx(1e-4 * 4 / 16)  # the paper's is for 16
    assert config.model.backbone.frozen_stages == 1 and config.optim_wrapper.paramwise_cfg.decay_rate == 0.85
    assert 'filter_cfg' not in config.train_dataloader.dataset and config.randomness.seed == 5


@pytest.mark.long
def test_a_run_from_a_model_of_other_classes(shapes, tmp_path, capsys):
    """Written, trained, resumed, and resumed again with fewer options."""
    start, run = tmp_path / 'start.pth', tmp_path / 'run'
    save_untrained(CASCADE, start)
    data = tmp_path / 'data'
    shutil.copytree(shapes, data)
    for split in SPLITS:
        path = data / 'annotations' / f'instances_{split}.json'
        content = json.loads(path.read_text())
        content['categories'].append(dict(id=40, name='hexagon'))
        content['images'].append(dict(content['images'][0], id=999, file_name='empty.png'))
        gray = np.full((64, 96, 3), ord(split[0]), np.uint8)
        Image.fromarray(gray).save(data / 'images' / split / 'empty.png')
        path.write_text(json.dumps(content))
    arguments = coco_arguments(data)
    options = dict(arch='nano', epochs=2, batch=2, start=start, work_dir=run)
    result = finetune(**arguments, **options)
    printed = capsys.readouterr().out
    assert 'train: images without objects: they are kept' in printed
    assert "'" not in printed.split('classes: ')[1].split('\n')[0]
    assert result.metric == 'mask AP' and 0 <= result.value <= 1 and result.best == run / 'best.pth'
    meta = torch.load(result.best, weights_only=True)['meta']  # by stock torch
    assert list(meta['dataset_meta']['classes']) == ['circle', 'square', 'triangle', 'hexagon']
    log = next(run.glob('*/*.log')).read_text()
    assert 'have a different shape in this model' in log
    assert 'initialized from scratch: roi_head.bbox_head.0.fc_cls.weight' in log
    text = result.config.read_text()
    assert text.startswith('# Written by: python')
    assert '# Optimizer.' in text and 'test_dataloader = val_dataloader' in text
    config = Config.fromfile(result.config)
    assert [h.type for h in config.custom_hooks] == ['EarlyStopping'] and config.load_from == str(start)
    assert config.model.roi_head.bbox_head[0].num_classes == 4
    with pytest.raises(UserError, match='already contains a run: use --resume to continue'):
        finetune(**arguments, **options)
    message = r'--epochs 3: the run in .*run was started with 2; leave the option out, or edit .*finetune\.py'
    with pytest.raises(UserError, match=message):
        finetune(**arguments, **(options | dict(epochs=3)), resume=True)
    with pytest.raises(UserError, match=r'--train .*other\.json: the run in '):
        finetune(**(arguments | dict(train='other.json')), **options, resume=True)
    for repeated in (options, dict(work_dir=run)):
        resumed = finetune(**arguments, **repeated, resume=True)
        assert resumed.value == pytest.approx(result.value) and resumed.plan is None
    logs = ''.join(path.read_text() for path in run.glob('*/*.log'))
    assert 'metainfo from the resumed checkpoint is different' not in logs


def test_class_names_are_not_executed(shapes, tmp_path):
    data = own_data(**coco_arguments(shapes))
    data.classes = [
        'it\'s a "cat" \\ \\n',
        'fence\nimport os; os.mkdir("broken")\n#',
        'é, ü {{ fileDirname }}',
    ]
    made = make_plan(data, model='cascade', arch='nano', batch=2)
    path = tmp_path / 'config.py'
    config = build_config(data, made, seed=0)
    path.write_text(config_text(config, describe(made, data), 'python x\nimport os'))
    before = sorted(tmp_path.iterdir())
    config = Config.fromfile(path)
    assert sorted(tmp_path.iterdir()) == before
    assert list(config.train_dataloader.dataset.metainfo.classes) == data.classes
    assert not any(line.startswith('import') for line in path.read_text().splitlines())
    content = json.loads((shapes / 'annotations' / 'instances_train.json').read_text())
    train = tmp_path / 'train.json'
    content['categories'][0]['name'] = data.classes[1]
    train.write_text(json.dumps(content))
    with pytest.raises(UserError, match='printable name'):
        finetune(**(coco_arguments(shapes) | dict(train=train)), arch='nano', work_dir=tmp_path / 'run')


def test_data_with_errors_is_refused(shapes, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(shapes, data)
    path = data / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [9, 9, -5, 5]
    path.write_text(json.dumps(content))
    message = r'1 kind of error in the data, the first: train: .*fastervit check-data .* --fix fixed'
    with pytest.raises(UserError, match=message):
        finetune(**coco_arguments(data), arch='nano', work_dir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--model', 'cascde'], '--model cascde: choose one of cascade'),
        (['--preset', 'fast'], '--preset fast: choose one of quick'),
        (['--presets', 'quick'], 'unknown option --presets .did you mean .--preset'),
        (['--start', 'absent.pth'], r'no checkpoint at absent\.pth'),
        (['--classes', 'a'], '--classes and --ignore are only for label maps'),
        (['--work-dir', '/dev/null/run'], '--work-dir /dev/null/run: cannot write'),
        (['--model', 'fpn'], 'learns from label-map folders'),
        (['--batch', '0'], '--batch 0'),
    ],
)
def test_errors_are_one_line(options, message, shapes, tmp_path):
    arguments = command_line(**coco_arguments(shapes))
    assert_one_line_error(verb('finetune', *arguments, *options, cwd=tmp_path), message)
    assert not list(tmp_path.iterdir())


def test_published_weights_that_cannot_be_downloaded(shapes, tmp_path, monkeypatch):
    def fail(source):
        raise DownloadError(source, 'no network; really', '/hub/weights.pth', 'ask someone')

    monkeypatch.setattr(run, 'resolve_checkpoint', fail)
    message = (
        r'\(no network; really\): put the file at /hub/weights\.pth, or use --start nothing or --start FILE$'
    )
    with pytest.raises(UserError, match=message):
        finetune(**coco_arguments(shapes), work_dir=tmp_path / 'work', arch='0', batch=2, size=(64, 96))
    assert not (tmp_path / 'work').exists()


def test_a_dry_run_writes_nothing(shapes, tmp_path):
    arguments = command_line(**label_arguments(shapes))
    done = verb('finetune', *arguments, '--model', 'upernet', '--dry-run', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'nothing was trained' in done.stdout and '4 classes: background' in done.stdout
    assert not list(tmp_path.iterdir())


def test_label_maps_with_an_ignored_value(shapes, tmp_path):
    arguments = label_arguments(shapes)
    three_classes = arguments | dict(classes=arguments['classes'][:3])
    data = own_data(**three_classes, ignore=3)
    assert data.ignore_index == 3 and data.image_suffix == '.png'
    config = build_config(data, make_plan(data, model='upernet', arch='nano', batch=2), seed=0)
    assert config.train_dataloader.dataset.ignore_index == 3
    assert config.model.data_preprocessor.size == (64, 96)
    with pytest.raises(UserError, match='--classes is required with label maps'):
        own_data(**(arguments | dict(classes=None)))
    with pytest.raises(UserError, match=r'kinds? of error in the data'):
        own_data(**three_classes)


def test_the_batch_knows_the_largest_images(monkeypatch):
    """Images are scaled by up to 1.25 per side: a batch may hold only the largest, of 1.56 times the area."""

    def set_free_memory(size):
        backbone_bytes, parameters = training_bytes('0', size)
        needed = 4.2 * backbone_bytes * memory._MODEL_OVER_BACKBONE + memory._STATE_BYTES * parameters
        monkeypatch.setattr(memory, 'free_memory', lambda: needed / memory._USED_FRACTION)

    set_free_memory((480, 640))  # for four images of the plan's size, but not of the largest size
    assert make_plan(fake_data(500), model='cascade', arch='0').batch_size == 2
    set_free_memory((512, 512))
    data = fake_data(500, kind='labels', size=(800, 800))
    assert make_plan(data, model='fpn', arch='0').batch_size == 4  # crops all have the same size


VERSION_2 = {'memory.max': '6000000', 'memory.current': '5000000'}
VERSION_1 = {'memory/memory.limit_in_bytes': '4000', 'memory/memory.usage_in_bytes': '3000'}


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        ({}, 8 * 2**30),
        ({'memory.max': str(2**40), 'memory.current': '5', 'memory.stat': 'anon 1'}, 8 * 2**30),
        ({'memory.max': 'max', 'memory.current': '5', 'memory.stat': 'inactive_file 1'}, 8 * 2**30),
        (VERSION_2 | {'memory.stat': 'anon 7\ninactive_file 1500000\n'}, 2500000),
        (VERSION_1 | {'memory/memory.stat': 'cache 9\ntotal_inactive_file 500'}, 1500),
        ({'memory.max': '100', 'memory.current': '200', 'memory.stat': ''}, 0),
    ],
)
def test_free_memory_is_what_is_left_of_the_limit(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(memory.psutil, 'virtual_memory', lambda: SimpleNamespace(available=8 * 2**30))
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert free_memory(tmp_path) == expected


def test_the_reason_for_slower_layers_is_true():
    """DINO's recipe gives the backbone a tenth of the learning rate instead of a decay by layer."""
    data = fake_data(500)
    dino, cascade = (make_plan(data, model=model, arch='0', batch=4) for model in ('dino', 'cascade'))
    reason = 'are frozen, the backbone learns at 0.1 of the learning rate, as in the base config'
    assert dino.decay_rate == 1.0 and any(reason in r for r in dino.reasons), dino.reasons
    reason = 'early layers learn slower (factor 0.85 per layer)'
    assert cascade.decay_rate == 0.85 and any(reason in r for r in cascade.reasons), cascade.reasons
    optimizer = build_config(data, dino, seed=0).optim_wrapper
    assert optimizer.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1 and 'constructor' not in optimizer
    assert build_config(data, cascade, seed=0).optim_wrapper.paramwise_cfg.decay_rate == 0.85


@pytest.mark.parametrize('model', ['cascade', 'fpn', 'classifier'])
def test_nano_starts_from_the_packages_weights(model):
    """Every family names them in init_cfg, and only another start leaves them out."""
    kind = {'cascade': 'coco', 'fpn': 'labels', 'classifier': 'folders'}[model]
    data = replace(fake_data(500, kind=kind), image_suffix='.jpg', ignore_index=255)
    for start, expected in (
        ('published', dict(type='Pretrained', checkpoint='fastervit://nano')),
        ('nothing', None),
    ):
        config = build_config(data, make_plan(data, model=model, arch='nano', batch=4, start=start), seed=0)
        assert config.model.backbone.get('init_cfg') == expected and config.load_from is None
