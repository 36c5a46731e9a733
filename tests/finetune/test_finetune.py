"""What fine-tuning decides, the config it writes, and what it refuses."""

import json
import shutil
import time

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('supervision')

from mmengine.config import Config
from PIL import Image

from fastervit_backbone import FasterViT
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.finetune import finetune, plan
from fastervit_backbone.finetune.flat_config import build_config
from fastervit_backbone.finetune.own_data import OwnData, read_own_data
from fastervit_backbone.finetune.plan import PRESETS, find_base, make_plan, training_bytes
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, assert_one_line_error, tool
from tests.mm_helpers import save_untrained


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=6, val=3, size=(64, 96))


def objects(root):
    jsons = [root / 'annotations' / f'instances_{split}.json' for split in ('train', 'val')]
    return dict(train=jsons[0], val=jsons[1], images=[root / 'images' / split for split in ('train', 'val')])


def labels(root):
    folders = [root / 'labels' / split for split in ('train', 'val')]
    images = [root / 'images' / split for split in ('train', 'val')]
    return dict(
        train=folders[0],
        val=folders[1],
        images=images,
        classes=['background', 'circle', 'square', 'triangle'],
    )


def own(count=500, masks=True, size=(480, 640), kind='coco'):
    from pathlib import Path

    return OwnData(kind, Path('t'), Path('v'), (Path('i'), Path('i')), ['a', 'b'], masks, count, 3, size)


def test_the_plan_follows_data_and_preset():
    made = make_plan(own(500), model='cascade', arch='0', batch=4)
    assert made.epochs == max(
        PRESETS['standard'].epochs, PRESETS['standard'].iterations // 125
    ) and made.size == (480, 640)
    assert (made.frozen_stages, made.decay_rate, made.start) == (1, 0.85, 'published') and made.ema > 0
    assert make_plan(own(40), model='cascade', arch='0', batch=4, epochs=2).ema is None
    assert make_plan(own(3000), model='cascade', arch='0', batch=4).frozen_stages == 0
    assert make_plan(own(9000), model='cascade', arch='0', batch=4).decay_rate == 1.0
    fresh = make_plan(own(500), model='cascade', arch='0', batch=4, start='nothing')
    assert (fresh.frozen_stages, fresh.decay_rate) == (-1, 1.0)
    assert make_plan(own(size=(3000, 4000)), model='cascade', arch='0', batch=1).size == (800, 1056)
    assert make_plan(own(size=(3000, 4000)), model='cascade', arch='nano', batch=1).size == (384, 544)
    assert make_plan(own(kind='labels', size=(300, 2000)), model='fpn', arch='0', batch=2).size == (64, 512)
    assert make_plan(own(3), model='cascade', arch='0', batch=16).batch == 3
    assert make_plan(own(40), model='dino', arch='nano', batch=4, epochs=2).every == 1


@pytest.mark.parametrize(
    ('given', 'told'),
    [
        (dict(model='fpn'), 'learns from label-map folders'),
        (dict(model='cascade', arch='9'), 'cascade comes with --arch 0, 1, 2, 3, 4, nano'),
        (dict(model='mask-rcnn', arch='nano'), 'mask-rcnn comes with --arch 0, 2'),
        (dict(model='cascade', batch=0), '--batch 0 of 500 training images: at least 1'),
        (dict(model='cascade', epochs=0), '--epochs 0: at least 1'),
    ],
)
def test_plans_that_cannot_be(given, told):
    with pytest.raises(UserError, match=told):
        make_plan(own(), **(dict(arch='0', batch=2) | given))
    with pytest.raises(UserError, match='--batch 1 of 500 training images: at least 2'):
        make_plan(own(kind='labels'), model='upernet', arch='0', batch=1)
    with pytest.raises(UserError, match='learns masks, and not every object'):
        make_plan(own(masks=False), model='mask-rcnn', arch='0', batch=1)


def test_memory_is_found_without_computing():
    """What an image keeps for the backward pass, as a real one keeps it."""
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
    found, parameters = training_bytes('nano', (160, 224))
    assert parameters == sum(p.numel() for p in net.parameters()) and len(maps) == 4
    assert found == pytest.approx(real, rel=0.15)
    assert training_bytes('0', (320, 448))[0] / training_bytes('0', (160, 224))[0] == pytest.approx(
        4, rel=0.2
    )


def test_every_model_has_its_configs():
    for model in ('cascade', 'dino', 'upernet', 'mask-rcnn', 'fpn'):
        assert find_base(model, '0').is_file()
    assert find_base('fpn', 'nano').name == 'fpn_shapes.py'


@pytest.mark.parametrize('masks', [True, False])
def test_the_config_of_detectors(masks, shapes):
    data = read_own_data(**objects(shapes), classes=None, ignored=None)
    assert (data.count, data.classes, data.masks, data.size) == (
        6,
        ['circle', 'square', 'triangle'],
        True,
        (64, 96),
    )
    data.masks = masks
    config = build_config(data, make_plan(data, model='cascade', arch='2', batch=4), seed=5)
    assert ('mask_head' in config.model.roi_head) == masks
    assert config.train_dataloader.dataset.pipeline[1].with_mask == masks
    assert config.val_evaluator.metric == (['bbox', 'segm'] if masks else ['bbox'])
    assert config.default_hooks.checkpoint.save_best == ('coco/segm_mAP' if masks else 'coco/bbox_mAP')
    assert config.optim_wrapper.optimizer.lr == pytest.approx(
        1e-4 * 4 / 16
    )  # the paper's, for its batch of 16
    assert config.model.backbone.frozen_stages == 1 and config.optim_wrapper.paramwise_cfg.decay_rate == 0.85
    assert 'filter_cfg' not in config.train_dataloader.dataset and config.randomness.seed == 5


def test_a_run_from_a_model_of_other_classes(shapes, tmp_path, capsys):
    """Written, trained, resumed, and started again from what came out."""
    start = tmp_path / 'start.pth'
    save_untrained(CASCADE, start)
    theirs = tmp_path / 'theirs'
    shutil.copytree(shapes, theirs)
    for split in ('train', 'val'):
        path = theirs / 'annotations' / f'instances_{split}.json'
        content = json.loads(path.read_text())
        content['categories'].append(dict(id=40, name='hexagon'))
        content['images'].append(dict(content['images'][0], id=999, file_name='empty.png'))
        Image.fromarray(np.full((64, 96, 3), ord(split[0]), np.uint8)).save(
            theirs / 'images' / split / 'empty.png'
        )
        path.write_text(json.dumps(content))
    asked = dict(arch='nano', epochs=2, batch=2, start=start, work_dir=tmp_path / 'run')
    result = finetune(**objects(theirs), **asked)
    said = capsys.readouterr().out
    assert (
        'of 7 images have no objects: they are kept' in said
        and "'" not in said.split('classes: ')[1].split('\n')[0]
    )
    assert (
        result.metric == 'mask AP' and 0 <= result.value <= 1 and result.best == tmp_path / 'run' / 'best.pth'
    )
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'have another shape here, and start fresh: roi_head.bbox_head.0.fc_cls.weight' in log
    text = result.config.read_text()
    assert (
        text.startswith('# Written by: python')
        and '# Optimizer.' in text
        and 'test_dataloader = val_dataloader' in text
    )
    config = Config.fromfile(result.config)
    assert (
        [h.type for h in config.custom_hooks] == ['EarlyStopping']
        and config.load_from == str(start)
        and config.model.roi_head.bbox_head[0].num_classes == 4
    )
    with pytest.raises(UserError, match='has a run already: --resume goes on'):
        finetune(**objects(theirs), **asked)
    with pytest.raises(
        UserError,
        match=r'--epochs 3: the run in .*run was made with 2: leave it out, or change .*finetune\.py itself',
    ):
        finetune(**objects(theirs), **(asked | dict(epochs=3)), resume=True)
    with pytest.raises(UserError, match=r'--train .*other\.json: the run in '):
        finetune(**(objects(theirs) | dict(train='other.json')), **asked, resume=True)
    for given in (asked, dict(work_dir=tmp_path / 'run')):
        time.sleep(1)  # mmengine names runs by the second
        again = finetune(**objects(theirs), **given, resume=True)
        assert again.value == pytest.approx(result.value) and again.plan is None
    assert 'metainfo from the resumed checkpoint is different' not in ''.join(
        p.read_text() for p in (tmp_path / 'run').glob('*/*.log')
    )


def test_names_are_no_code(shapes, tmp_path):
    from fastervit_backbone.finetune.flat_config import config_text
    from fastervit_backbone.finetune.plan import describe

    data = read_own_data(**objects(shapes), classes=None, ignored=None)
    mean = ['it\'s a "cat" \\ \\n', 'fence\nimport os; os.mkdir("broken")\n#', 'é, ü']
    data.classes = mean
    made = make_plan(data, model='cascade', arch='nano', batch=2)
    path = tmp_path / 'config.py'
    path.write_text(
        config_text(build_config(data, made, seed=0), describe(made, data), 'python x\nimport os')
    )
    before = sorted(tmp_path.iterdir())
    config = Config.fromfile(path)
    assert (
        sorted(tmp_path.iterdir()) == before
        and list(config.train_dataloader.dataset.metainfo.classes) == mean
    )
    lines = path.read_text().splitlines()
    assert not any(line.startswith('import') for line in lines)
    content = json.loads((shapes / 'annotations' / 'instances_train.json').read_text())
    for name in (mean[1], '{{ fileDirname }}'):
        content['categories'][0]['name'] = name
        (tmp_path / 'train.json').write_text(json.dumps(content))
        with pytest.raises(UserError, match='printable name'):
            finetune(
                **(objects(shapes) | dict(train=tmp_path / 'train.json')),
                arch='nano',
                work_dir=tmp_path / 'run',
            )


def test_data_with_errors_is_not_trained_on(shapes, tmp_path):
    mine = tmp_path / 'mine'
    shutil.copytree(shapes, mine)
    path = mine / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [1, 1, 0, 5]
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r'1 kind of error in the data, the first train: .*check_data\.py .* --fix fixed'
    ):
        finetune(**objects(mine), arch='nano', work_dir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (['--model', 'cascde'], '--model cascde: one of cascade'),
        (['--preset', 'fast'], '--preset fast: one of quick'),
        (['--presets', 'quick'], 'there is no option --presets: did you mean --preset'),
        (['--start', 'absent.pth'], r'no checkpoint at absent\.pth'),
        (['--classes', 'a'], '--classes and --ignore are for label maps'),
        (['--work-dir', '/dev/null/run'], '--work-dir /dev/null/run: cannot write'),
        (['--model', 'fpn'], 'learns from label-map folders'),
        (['--batch', '0'], '--batch 0'),
    ],
)
def test_refused_in_one_line(change, told, shapes, tmp_path):
    given = objects(shapes)
    arguments = [
        '--train',
        given['train'],
        '--val',
        given['val'],
        '--images',
        *given['images'],
        '--arch',
        'nano',
        *change,
    ]
    assert_one_line_error(tool('finetune', *arguments, cwd=tmp_path), told)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(shapes, tmp_path):
    given = labels(shapes)
    names = ['--classes', *given['classes'], '--model', 'upernet', '--arch', 'nano', '--dry-run']
    done = tool(
        'finetune',
        '--train',
        given['train'],
        '--val',
        given['val'],
        '--images',
        *given['images'],
        *names,
        cwd=tmp_path,
    )
    assert (
        done.returncode == 0
        and 'nothing was trained' in done.stdout
        and '4 classes: background' in done.stdout
    ), done.stderr
    assert not list(tmp_path.iterdir())


def test_label_maps_with_a_value_for_nothing(shapes, tmp_path):
    given = labels(shapes)
    data = read_own_data(given['train'], given['val'], given['images'], given['classes'][:3], 3)
    assert data.ignored == 3 and data.suffix == '.png'
    config = build_config(data, make_plan(data, model='upernet', arch='nano', batch=2), seed=0)
    assert config.train_dataloader.dataset.ignore_index == 3 and config.model.data_preprocessor.size == (
        64,
        96,
    )
    with pytest.raises(UserError, match='--classes is needed with label maps'):
        read_own_data(given['train'], given['val'], given['images'], None, None)
    with pytest.raises(UserError, match=r'kinds? of error in the data'):
        read_own_data(given['train'], given['val'], given['images'], given['classes'][:3], None)


def test_the_batch_knows_the_largest_images(monkeypatch):
    """Training images are resized by up to 1.25 a side: a batch may hold the largest, of 1.56 times the area."""
    needed, parameters = training_bytes('0', (480, 640))
    room = 4.2 * needed * plan._WHOLE_MODEL  # four of the plan's size, but not of the largest
    monkeypatch.setattr(plan, 'free_memory', lambda: (room + plan._STATE * parameters) / plan._MEMORY_USED)
    assert make_plan(own(500), model='cascade', arch='0').batch == 2
    needed, parameters = training_bytes('0', (512, 512))
    room = 4.2 * needed * plan._WHOLE_MODEL
    assert (
        make_plan(own(500, kind='labels', size=(800, 800)), model='fpn', arch='0').batch == 4
    )  # crops are all of one size


@pytest.mark.parametrize(
    ('files', 'free'),
    [
        ({}, 8 * 2**30),
        ({'proc/meminfo': 'MemFree: 1 kB\nMemAvailable: 3000000 kB\n'}, 3000000 * 1024),
        ({'memory.max': 'max', 'memory.current': '5', 'memory.stat': 'inactive_file 1'}, 8 * 2**30),
        (
            {
                'memory.max': '6000000',
                'memory.current': '5000000',
                'memory.stat': 'anon 7\ninactive_file 1500000\n',
            },
            2500000,
        ),
        (
            {
                'memory/memory.limit_in_bytes': '4000',
                'memory/memory.usage_in_bytes': '3000',
                'memory/memory.stat': 'cache 9\ntotal_inactive_file 500',
            },
            1500,
        ),
        ({'memory.max': '100', 'memory.current': '200', 'memory.stat': ''}, 0),
    ],
)
def test_free_memory_is_what_is_left_of_the_limit(files, free, tmp_path):
    for name, text in files.items():
        path = tmp_path / (name if name.startswith('proc') else f'sys/fs/cgroup/{name}')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert plan.free_memory(tmp_path) == free


def test_what_is_said_of_slower_layers_is_so():
    """DINO's recipe gives the backbone a tenth of the rate instead of a decay by layer."""
    for model, arch, decay, told in (
        (
            'dino',
            '0',
            1.0,
            'stay as pretrained, the backbone learns at 0.1 of the rate, as in the base config',
        ),
        ('cascade', '0', 0.85, 'early layers learn slower (factor 0.85 a layer)'),
    ):
        decided = make_plan(own(500), model=model, arch=arch, batch=4)
        assert decided.decay_rate == decay and any(told in reason for reason in decided.reasons), (
            decided.reasons
        )
        optimizer = build_config(own(500), decided, seed=0).optim_wrapper
        if model == 'dino':
            assert (
                optimizer.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1 and 'constructor' not in optimizer
            )
        else:
            assert optimizer.paramwise_cfg.decay_rate == 0.85
