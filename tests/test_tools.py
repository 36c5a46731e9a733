"""The tools as users run them: as processes, from another folder, with real and with bad input."""

import json
import re
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmengine.config import Config
from PIL import Image

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, FPN, QUICK, ROOT, UPERNET, ReferenceCase, assert_one_line_error, once
from tests.processes import COMMAND, TORCHRUN, environment, ranks, start_verb, verb

PAPER = ROOT / 'configs' / 'cascade_fastervit4_3x.py'
#: Makes a config of the paper run in seconds on two cores: nano backbone, few images, few regions.
SMALL_MODEL = [
    'model.backbone.arch=nano',
    'model.neck.in_channels=[32,64,128,256]',
    'model.backbone.init_cfg=None',
    'model.train_cfg.rpn_proposal.max_per_img=50',
    *(f'model.train_cfg.rcnn.{i}.sampler.num=32' for i in range(3)),
    'model.test_cfg.rpn.max_per_img=50',
    'model.test_cfg.rcnn.score_thr=0.001',  # an untrained model also has some detections
    'train_dataloader.dataset.indices=4',
    'val_dataloader.dataset.indices=2',
    'test_dataloader.dataset.indices=2',
]


#: Keeps the weakest detections: a model of two epochs may have an AP of 0, and two zeros would prove nothing.
SCORED = [*QUICK, 'model.test_cfg.rcnn.score_thr=0.0']
TWO_EPOCHS = ['train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'default_hooks.logger.interval=1']


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    make = partial(make_shapes, train=8, val=3, size=(96, 128))
    return once(tmp_path_factory, 'shapes_of_tools', lambda folder: make(folder / 'shapes'))


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory):
    """A run killed in its second epoch and resumed: (work dir, output until the kill, output after)."""
    options = ['--seed', '1', '--verbose', '--cfg-options', *QUICK, *TWO_EPOCHS]

    def make(folder):
        arguments = [CASCADE, '--work-dir', folder / 'work', *options, 'train_dataloader.batch_size=2']
        return folder / 'work', *kill_and_resume(arguments, folder, SHAPES_ROOT=str(shapes))

    return once(tmp_path_factory, 'trained', make)


def kill_and_resume(arguments, cwd, **variables):
    work = Path(arguments[arguments.index('--work-dir') + 1])
    log = cwd / 'first.log'
    process = start_verb('train', *arguments, cwd=cwd, log=log, **variables)
    deadline = time.monotonic() + 800
    while 'Epoch(train) [2][1/' not in re.sub(' +', ' ', log.read_text()).replace('[ ', '['):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    process.kill()
    assert (work / 'epoch_1.pth').is_file() and not (work / 'epoch_2.pth').exists()
    done = verb('train', *arguments, '--resume', cwd=cwd, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return log.read_text(), done.stdout + done.stderr


def rates(log):
    """Map (epoch, iteration) to the learning rate in a log."""
    found = re.findall(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/\d+\].*? lr: (\S+)', log)
    return {(int(e), int(i)): float(lr) for e, i, lr in found}


def scores_of(prefix):
    """Map each image's id to the scores of its detections, highest first."""
    found = {}
    for box in json.loads(Path(f'{prefix}.bbox.json').read_text()):
        found.setdefault(box['image_id'], []).append(box['score'])
    return {image: sorted(scores, reverse=True) for image, scores in found.items()}


def assert_resumed(work, first, second):
    assert 'resumed epoch: 1' in second
    before, after = rates(first), rates(second)
    # the schedule continues, and does not start again
    assert before[1, 1] and min(after) == (2, 1) and after[2, 1] == before[2, 1]
    checkpoint = torch.load(work / 'epoch_2.pth', weights_only=False)
    assert checkpoint['meta']['epoch'] == 2 and checkpoint['meta']['iter'] == 2 * max(i for e, i in after)
    steps = {int(s['step']) for s in checkpoint['optimizer']['state'].values()}
    assert steps == {checkpoint['meta']['iter']}  # AdamW continues to count


def test_killed_training_resumes(trained):
    assert_resumed(*trained)


def test_learning_rate_is_scaled_and_logged(trained):
    work, first, _ = trained
    lr = Config.fromfile(CASCADE).optim_wrapper.optimizer.lr  # for a batch of 4; the run has 2
    assert f'learning rate {lr:g} is for batch 4; this run has 2: {lr:g} -> {lr / 2:g}' in first
    assert rates(first)[1, 4] <= lr / 2
    written = Config.fromfile(work / 'cascade_shapes.py')
    assert written.optim_wrapper.optimizer.lr == lr  # the written config is not scaled


def test_readmes_prediction_in_python(trained, shapes):
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    block = next(b for b in blocks if 'Predictor(' in b)
    run, image = 'work_dirs/finetune/my_data_default_0', shapes / 'images' / 'val' / '000001.png'
    paths = {f'{run}/finetune.py': CASCADE, f'{run}/best.pth': trained[0] / 'epoch_2.pth', 'photo.jpg': image}
    for named, path in paths.items():
        assert named in block
        block = block.replace(named, str(path))
    scope = {}
    exec(block, scope)
    prediction = scope['prediction']
    assert prediction.size == (96, 128) and len(prediction.masks) == len(prediction.boxes)


def test_checkpoints_keep_the_category_ids(trained, shapes):
    categories = json.loads((shapes / 'annotations' / 'instances_train.json').read_text())['categories']
    meta = torch.load(trained[0] / 'epoch_2.pth', weights_only=False)['meta']['dataset_meta']
    ids = dict(zip(meta['classes'], meta['category_ids'], strict=True))
    assert ids == {c['name']: c['id'] for c in categories}


def test_two_processes_train_resume_and_evaluate(shapes, tmp_path):
    """torchrun with gloo: SyncBN becomes BN, the learning rate counts both processes; resume and evaluate."""
    options = ['--launcher', 'pytorch', '--work-dir', tmp_path / 'work', '--verbose', '--cfg-options']
    short = [*options, *QUICK, 'train_dataloader.batch_size=2', *TWO_EPOCHS[2:], 'train_cfg.val_interval=1']

    def run(name, *arguments):
        done = ranks(COMMAND, name, *arguments, cwd=tmp_path, SHAPES_ROOT=str(shapes))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command = [*TORCHRUN, ROOT / 'tools' / 'train.py', CASCADE, *short, 'train_cfg.max_epochs=1']
    env = environment(SHAPES_ROOT=str(shapes))
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout
    assert 'is for batch' not in first  # 2 processes x 2 images are the config's batch of 4
    assert len(rates(first)) == 2  # 8 images
    assert 'resumed epoch: 1' in run('train', CASCADE, '--resume', *short, 'train_cfg.max_epochs=2')
    together, single = tmp_path / 'together', tmp_path / 'single'
    run('test', CASCADE, tmp_path / 'work', *options, *SCORED, f'test_evaluator.outfile_prefix={together}')
    arguments = [
        CASCADE,
        tmp_path / 'work',
        '--cfg-options',
        *SCORED,
        f'test_evaluator.outfile_prefix={single}',
    ]
    assert verb('test', *arguments, cwd=tmp_path, SHAPES_ROOT=str(shapes)).returncode == 0
    assert len(scores_of(single)) == 3
    assert scores_of(together) == scores_of(single)


def test_evaluation_with_pictures_and_metrics_from_another_folder(trained, shapes, tmp_path):
    work = trained[0]
    folders = ['--show-dir', 'pictures', '--out', tmp_path / 'metrics.json', '--work-dir', tmp_path / 'test']
    done = verb(
        'test', CASCADE, work, *folders, '--cfg-options', *QUICK, cwd=tmp_path, SHAPES_ROOT=str(shapes)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pictures = {p.name for p in (tmp_path / 'pictures').iterdir()}
    assert pictures == {'000001.png', '000002.png', '000003.png', 'overview.png'}
    record = json.loads((tmp_path / 'metrics.json').read_text())
    box_ap, mask_ap = (record['metrics'][f'coco/{kind}_mAP'] for kind in ('bbox', 'segm'))
    assert 0 <= box_ap <= 1 and record['checkpoint'].endswith('epoch_2.pth')
    last = done.stdout.splitlines()[-3:]
    assert last[0] == f'box AP {box_ap:.3f}, mask AP {mask_ap:.3f}'
    assert str(tmp_path / 'pictures') in last[1] and 'metrics.json' in last[2]


def test_deploy_mode_gives_the_same_detections(trained, shapes, tmp_path):
    scores = []
    for name, options in (('plain', []), ('deployed', ['--deploy'])):
        prefix = f'test_evaluator.outfile_prefix={tmp_path / name}'
        arguments = [CASCADE, trained[0], '--work-dir', tmp_path / name, *options, '--cfg-options', *SCORED]
        done = verb('test', *arguments, prefix, cwd=tmp_path, SHAPES_ROOT=str(shapes))
        assert done.returncode == 0, done.stdout + done.stderr
        assert ('deploy: ' in done.stdout) == bool(options)
        scores.append(scores_of(tmp_path / name))
    assert len(scores[0]) == 3 and scores[0].keys() == scores[1].keys()
    for image, plain in scores[0].items():
        assert scores[1][image] == pytest.approx(plain, abs=1e-4)


def test_deploy_mode_of_another_backbone(monkeypatch):
    from fastervit_backbone import evaluate as module

    config = Config(dict(model=dict(backbone=dict(type='ResNet'))))
    monkeypatch.setattr(module, 'prepare', lambda *_, **__: config)
    with pytest.raises(
        UserError, match=r'--deploy: the backbone of c\.py is ResNet, which has no deploy mode'
    ):
        module.evaluate('c.py', 'x.pth', deploy=True)


def test_tta_where_the_config_has_none(trained, shapes, tmp_path):
    done = verb('test', CASCADE, trained[0], '--tta', cwd=tmp_path, SHAPES_ROOT=str(shapes))
    assert_one_line_error(done, r'--tta: .*cascade_shapes\.py has no tta_model and no tta_pipeline')


def test_no_detections_at_all(trained, shapes, tmp_path):
    options = [*QUICK, 'model.test_cfg.rcnn.score_thr=1.0']
    done = verb('test', CASCADE, trained[0], '--cfg-options', *options, cwd=tmp_path, SHAPES_ROOT=str(shapes))
    assert done.returncode == 0 and 'no detections in any image' in done.stdout, done.stderr


def test_the_weights_of_a_detector_convert(trained, tmp_path):
    done = verb('convert-checkpoint', trained[0] / 'epoch_2.pth', tmp_path / 'nano.safetensors', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(arch 'nano')" in done.stdout and (tmp_path / 'nano.safetensors').is_file()


def test_two_processes_with_different_sizes(tmp_path):
    """gloo with another image size on each rank for two steps: gradients agree, and nothing hangs."""
    script = tmp_path / 'ddp.py'
    script.write_text(
        'import torch, torch.distributed as dist\n'
        'from torch.nn.parallel import DistributedDataParallel as DDP\n'
        'from fastervit_backbone import FasterViT\n'
        "dist.init_process_group('gloo')\n"
        'rank = dist.get_rank()\n'
        'torch.manual_seed(rank)\n'
        "net = DDP(FasterViT('nano', drop_path_rate=0.1))\n"
        'optimizer = torch.optim.SGD(net.parameters(), 0.01)\n'
        'for size in [((64, 96), (97, 131)), ((224, 33), (32, 320))]:\n'
        '    optimizer.zero_grad()\n'
        '    sum((m * torch.randn_like(m)).mean() for m in net(torch.randn(2, 3, *size[rank]))).backward()\n'
        '    optimizer.step()\n'
        'net.eval()\n'
        'with torch.no_grad():\n'
        '    net(torch.randn(1, 3, 97 + 40 * rank, 64))\n'
        'weights = torch.cat([p.detach().flatten() for p in net.parameters()])\n'
        'others = [torch.empty_like(weights) for _ in range(2)]\n'
        'dist.all_gather(others, weights)\n'
        'assert torch.equal(others[0], others[1]) and weights.isfinite().all()\n'
        "print('agreed', flush=True)\n"
    )
    done = ranks(script, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count('agreed') == 2, done.stderr


def broken_json(tmp_path, shapes):
    root = tmp_path / 'broken'
    (root / 'annotations').mkdir(parents=True)
    (root / 'images').symlink_to(shapes / 'images')
    for split in ('train', 'val'):
        (root / 'annotations' / f'instances_{split}.json').write_text('{"images": [')
    return root


def no_images(tmp_path, shapes):
    root = broken_json(tmp_path, shapes)
    for path in (root / 'annotations').iterdir():
        content = json.loads((shapes / 'annotations' / path.name).read_text())
        path.write_text(json.dumps(dict(content, images=[], annotations=[])))
    return root


def broken_labels(tmp_path, shapes, edit):
    root = tmp_path / 'broken'
    shutil.copytree(shapes, root)
    edit(root / 'labels' / 'train' / '000003.png')
    return root


def label_out_of_range(tmp_path, shapes):
    labels = Image.fromarray(np.full((96, 128), 4, np.uint8))
    return broken_labels(tmp_path, shapes, labels.save)


def no_label_map(tmp_path, shapes):
    return broken_labels(tmp_path, shapes, Path.unlink)


def label_map_of_another_size(tmp_path, shapes):
    labels = Image.fromarray(np.zeros((96, 127), np.uint8))
    return broken_labels(tmp_path, shapes, labels.save)


def text_file(tmp_path):
    (tmp_path / 'text.pth').write_text('not weights\n')
    return tmp_path / 'text.pth'


#: Case -> (arguments of tools/train.py, function that makes the data, message).
TRAIN_ERRORS = {
    'missing config': (['configs/nothing.py'], None, 'no config at configs/nothing.py'),
    'missing data': (
        [PAPER],
        None,
        r'no annotations at .*/data/coco/annotations/instances_train2017\.json: get train2017\.zip',
    ),
    'broken json': ([CASCADE], broken_json, r'instances_train\.json is broken JSON .*line 1'),
    'no images': ([CASCADE], no_images, r'instances_train\.json: no images: '),
    'label out of range': (
        [FPN],
        label_out_of_range,
        r'labels/train: label maps with values .*000003\.png: 4.*the 4 classes have 0 to 3: set ignore_index',
    ),
    'no label map': (
        [FPN],
        no_label_map,
        r'labels/train: images without a label map .*1 of 8, the first is .*labels/train/000003\.png',
    ),
    'label map of another size': (
        [FPN],
        label_map_of_another_size,
        r'labels/train: label maps of another size .*000003\.png: 127x96, image 128x96',
    ),
    'no ade20k': (
        [ROOT / 'configs' / 'upernet_fastervit0_160k.py'],
        None,
        r'no folder at .*data/ade/.*images/training: get ADEChallengeData2016\.zip',
    ),
    'no voc': (
        [ROOT / 'configs' / 'faster-rcnn_fastervit0_voc0712.py'],
        None,
        r'no image list at .*VOC2007/ImageSets/Main/trainval\.txt: get',
    ),
    'upernet with one image': (
        [UPERNET, '--cfg-options', 'train_dataloader.batch_size=1'],
        'shapes',
        'UPerHead pools to a single pixel, and BatchNorm needs two: train_dataloader.batch_size=2',
    ),
    'unknown option': (
        [CASCADE, '--cfg-options', 'model.backbone.depth=3'],
        'shapes',
        "model.backbone has no option 'depth'",
    ),
    'other channels': (
        [CASCADE, '--cfg-options', 'model.backbone.arch=0'],
        'shapes',
        r'in_channels is \[32, 64, 128, 256\], but .* gives \[64,',
    ),
    'no start': ([CASCADE, '--cfg-options', 'load_from=absent.pth'], 'shapes', 'no checkpoint at absent.pth'),
    'no number': (
        [CASCADE, '--cfg-options', 'train_dataloader.batch_size=abc'],
        'shapes',
        'batch_size=abc: it must be a number, and is 4 now',
    ),
    'no folder': (
        [CASCADE, '--work-dir', '/proc/version/x'],
        'shapes',
        '--work-dir /proc/version/x: cannot write to /proc/version, which is a file',
    ),
}


@pytest.mark.parametrize(('arguments', 'data', 'message'), TRAIN_ERRORS.values(), ids=TRAIN_ERRORS)
def test_train_rejects_bad_input_in_one_line(arguments, data, message, shapes, tmp_path):
    root = shapes if data == 'shapes' else data(tmp_path, shapes) if data else tmp_path / 'absent'
    done = verb('train', *arguments, cwd=tmp_path, SHAPES_ROOT=str(root))
    assert_one_line_error(done, message)
    assert not (tmp_path / 'work_dirs').exists()


@pytest.mark.parametrize('kind', ['text', 'other arch', 'published', 'missing', 'empty folder'])
def test_test_rejects_checkpoints_in_one_line(kind, shapes, trained, tmp_path):
    options = list(QUICK)
    if kind == 'text':
        path, message = text_file(tmp_path), r'text\.pth is not a checkpoint'
    elif kind == 'other arch':
        options += ['model.backbone.arch=0', 'model.neck.in_channels=[64,128,256,512]']
        path, message = (
            trained[0] / 'epoch_2.pth',
            "this file has .*dim=32 where the model has 64.*arch='nano'",
        )
    elif kind == 'published':
        path = tmp_path / 'published.pth'
        message = 'does not fit the model: it is only a backbone, for model.backbone.init_cfg'
        torch.save(ReferenceCase('small_hat_224').published_file(), path)
    elif kind == 'missing':
        path, message = tmp_path / 'absent.pth', r'no checkpoint at .*absent\.pth'
    else:
        path, message = tmp_path, 'a folder without a checkpoint'
    done = verb('test', CASCADE, path, '--cfg-options', *options, cwd=tmp_path, SHAPES_ROOT=str(shapes))
    assert_one_line_error(done, message)


def test_doctor_accepts_this_environment(tmp_path):
    done = verb('doctor', cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == 'training can run', done.stdout
    for name in ('python', 'torch', 'CUDA', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'numpy'):
        assert name in done.stdout
    assert re.search(r"operators +(torchvision|mmcv's, compiled), working on CPU", done.stdout)


@pytest.mark.long
def test_doctor_reports_problems_and_commands(tmp_path):
    """An mmcv that is broken, and both families of packages at once."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text("__version__ = '2.3.6'\n")
    for name in ('mmcv', 'mmdet'):
        info = tmp_path / f'{name}-2.1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.1.0\n')
    done = verb('doctor', '--quiet', cwd=tmp_path, PYTHONPATH=f'{tmp_path}:{ROOT}')
    assert done.returncode == 1
    uninstall = r'\S+ -m pip uninstall -y mmcv mmdet onedl-mmcv onedl-mmdetection && '
    assert re.search(rf'both families of mmcv, mmdet.*\n    fix: {uninstall}', done.stdout)
    install = r'\S+ -m pip install --force-reinstall --no-deps torchvision==\S+ onedl-mmcv=='
    assert re.search(rf'operators fail on CPU \(.*mmcv\.ops.*\)\n    fix: {install}', done.stdout)


@pytest.mark.slow
@pytest.mark.realdata
def test_paper_config_on_coco(real_data, tmp_path):
    """configs/cascade_fastervit4_3x.py on real COCO images: train, kill -9, resume, evaluate."""
    options, work = ['--cfg-options', *SMALL_MODEL, *QUICK], tmp_path / 'work'
    run_options = dict(cwd=tmp_path, COCO_ROOT=str(real_data / 'coco_mini128'))
    arguments = [PAPER, '--work-dir', work, '--seed', '1', *options, *TWO_EPOCHS]
    assert_resumed(work, *kill_and_resume(arguments, **run_options))
    done = verb('test', PAPER, work, *options, **run_options)
    assert done.returncode == 0 and 'box AP' in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.realdata
def test_demo_config_on_other_data(real_data, tmp_path):
    """The demo's config on photographs: 17 classes, category id 0, an RGBA image, images without objects."""
    root = real_data / 'coco_pixabay61'
    content = json.loads((root / 'annotations' / 'instances_train.json').read_text())
    classes = [category['name'] for category in content['categories']]
    config = tmp_path / 'pixabay.py'
    config.write_text(
        f'_base_ = {str(CASCADE)!r}\n'
        f'metainfo = dict(classes={classes!r}, palette=None)\n'
        "resize = dict(type='Resize', scale=(256, 192), keep_ratio=True)\n"
        "load = dict(type='LoadImageFromFile')\n"
        "annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)\n"
        "flip = dict(type='RandomFlip', prob=0.5)\n"
        "train_pipeline = [load, annotations, resize, flip, dict(type='PackDetInputs')]\n"
        "test_pipeline = [load, resize, annotations, dict(type='PackDetInputs',\n"
        "    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]\n"
        f'data = dict(data_root={str(root)!r}, metainfo=metainfo, data_prefix=dict(img="images/"))\n'
        'train_dataloader = dict(dataset=dict(**data, pipeline=train_pipeline))\n'
        'val_dataloader = dict(dataset=dict(**data, pipeline=test_pipeline))\n'
        'test_dataloader = val_dataloader\n'
        f'val_evaluator = dict(ann_file={str(root / "annotations" / "instances_val.json")!r})\n'
        'test_evaluator = val_evaluator\n'
    )
    options, work = ['--cfg-options', *QUICK], tmp_path / 'work'
    arguments = [config, '--work-dir', work, '--seed', '1', *options, *TWO_EPOCHS]
    assert_resumed(work, *kill_and_resume(arguments, tmp_path))
    done = verb('test', config, work, '--show-dir', 'pictures', *options, cwd=tmp_path)
    assert done.returncode == 0 and 'box AP' in done.stdout, done.stdout + done.stderr
    assert len(list((tmp_path / 'pictures').iterdir())) == 16
