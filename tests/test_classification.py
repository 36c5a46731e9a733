"""Classifiers through all tools: train, resume, test, predict, analyze, finetune; MESA; weights; errors."""

import json
import os
import time

import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('supervision')

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from fastervit_backbone.checkpoints.classifier import select_classes, to_classifier
from fastervit_backbone.checkpoints.published import load_published
from fastervit_backbone.datasets.class_folders import list_images, resolve_classes
from fastervit_backbone.datasets.imagenet import synsets
from fastervit_backbone.engine.mesa import mesa_loss
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.finetune import finetune
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.models.fastervit import FasterViT
from fastervit_backbone.publish import publish
from fastervit_backbone.train import train
from fastervit_backbone.utils.errors import CheckpointError, UserError
from tests.helpers import ROOT, TOLERANCE, ReferenceCase, assert_one_line_error, relative_error
from tests.processes import start_verb, verb

FOLDER = ROOT / 'configs' / 'classification'
CIFAR, MESA = FOLDER / 'cifar10_nano.py', FOLDER / 'imagenet200_nano.py'
COLORS = {'green': (40, 200, 60), 'red': (220, 40, 40), 'blue': (40, 60, 220)}
SYNSETS = {'n01443537': 'green', 'n01629819': 'red', 'n01641577': 'blue'}
IN_PROCESS = {
    f'{split}_dataloader.{key}': value
    for split in ('train', 'val', 'test')
    for key, value in (('num_workers', 0), ('persistent_workers', False), ('batch_size', 4))
}


def write_folders(root, folders, images, size=(40, 48)):
    """One color per class, with noise: easy to learn."""
    generator = np.random.default_rng(len(str(root)))
    for folder, color in folders.items():
        (root / folder).mkdir(parents=True)
        for i in range(images):
            pixels = np.array(COLORS[color]) + generator.normal(0, 25, (*size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / folder / f'{i}.png')
    return root


@pytest.fixture(scope='module')
def colors(tmp_path_factory):
    root = tmp_path_factory.mktemp('colors')
    for split, images in (('train', 8), ('test', 3)):
        write_folders(root / split, {color: color for color in COLORS}, images)
    return root


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    root = tmp_path_factory.mktemp('imagenet')
    for split, images in (('train', 8), ('val', 2)):
        write_folders(root / split, SYNSETS, images)
    return root


@pytest.fixture(scope='module')
def trained(colors, tmp_path_factory):
    work = tmp_path_factory.mktemp('trained')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('CIFAR10_ROOT', str(colors))
        options = IN_PROCESS | {'optim_wrapper.optimizer.lr': 0.02, 'train_cfg.max_epochs': 4}
        train(CIFAR, work_dir=work, seed=0, options=options)
    return work


@pytest.fixture
def root(colors, monkeypatch):
    monkeypatch.setenv('CIFAR10_ROOT', str(colors))
    return colors


def build(path):
    config = Config.fromfile(path)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(config.model)


# --- the tools


def test_test_predict_and_analyze_agree(root, trained, tmp_path):
    metrics = evaluate(CIFAR, trained, work_dir=tmp_path / 'test', options=IN_PROCESS)
    assert metrics['accuracy/top1'] > 60 and 'accuracy/top5' not in metrics  # there are three classes
    meta = torch.load(next(trained.glob('epoch_*.pth')), weights_only=False)['meta']['dataset_meta']
    assert meta['classes'] == ('blue', 'green', 'red')

    images = root / 'test'
    process = verb('predict', CIFAR, trained, images, '--out', tmp_path / 'out', '--batch', '4', cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    content = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert content['info']['classification'] and len(content['images']) == 9
    assert [c['name'] for c in content['categories']] == ['blue', 'green', 'red']
    of_first = [a for a in content['annotations'] if a['image_id'] == content['images'][0]['id']]
    assert len(of_first) == 3 and 'bbox' not in of_first[0]
    assert abs(sum(a['score'] for a in of_first) - 1) < 1e-5
    assert of_first == sorted(of_first, key=lambda a: -a['score'])
    assert len(list((tmp_path / 'out' / 'pictures').rglob('*.jpg'))) == 9

    process = verb('analyze-results', tmp_path / 'out', images, '--out', tmp_path / 'analysis', cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    figures = json.loads((tmp_path / 'analysis' / 'figures.json').read_text())
    assert figures['summary']['top-1'] == pytest.approx(metrics['accuracy/top1'] / 100)
    rows = (tmp_path / 'analysis' / 'confusion.csv').read_text().splitlines()
    counts = np.array([[int(cell) for cell in row.split(',')[1:]] for row in rows[1:]])
    assert counts.sum() == 9 and np.trace(counts) / 9 == pytest.approx(figures['summary']['top-1'])
    recall = [row['recall'] for row in figures['classes']]
    assert recall == pytest.approx(list(np.diag(counts) / counts.sum(1)))


def test_predictor_equals_the_model_on_the_pixels(root, trained):
    predictor = Predictor(CIFAR, trained)
    path = next((root / 'test' / 'red').iterdir())
    prediction = predictor([path])[0]
    with Image.open(path) as image:
        pixels = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), np.float32)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    inputs = torch.tensor((pixels - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = predictor.model(inputs, mode='tensor').softmax(1)[0].numpy()
    order = np.argsort(-expected)
    assert prediction.classification and list(prediction.labels) == list(order)
    np.testing.assert_allclose(prediction.scores, expected[order], atol=1e-5)
    assert list(prediction.select(prediction.scores > 2).labels) == []
    assert list(prediction.select(np.array([0])).labels) == [order[0]]
    only = Predictor(CIFAR, trained, classes=['green'])([path])[0]
    assert [predictor.categories.names[i] for i in only.labels] == ['green']


def test_a_published_classifier_is_the_trained_one(root, trained, tmp_path):
    checkpoint = trained / 'epoch_4.pth'
    folder = publish(trained, tmp_path / 'out', checkpoint=checkpoint)
    assert str(root) not in (folder / 'config.py').read_text() + (folder / 'README.md').read_text()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    found, expected = (p([pixels])[0] for p in (Predictor(folder), Predictor(CIFAR, checkpoint)))
    assert np.array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_some_of_the_classes(root, trained, tmp_path):
    """ImageNet-A and -R: the classes that are not in the data are no answers."""
    folder = tmp_path / 'two'
    for name in ('blue', 'red'):
        (folder / name).mkdir(parents=True)
        for path in (root / 'test' / name).iterdir():
            os.symlink(path, folder / name / path.name)
    metrics = evaluate(CIFAR, trained, work_dir=tmp_path / 'a', data=folder, options=IN_PROCESS)
    predictor, hits = Predictor(CIFAR, trained), 0
    for label, name in ((0, 'blue'), (2, 'red')):
        for prediction in predictor(sorted((folder / name).iterdir())):
            score = dict(zip(prediction.labels.tolist(), prediction.scores, strict=True))
            hits += score[label] > score[2 - label]
    assert metrics['accuracy/top1'] == pytest.approx(100 * hits / 6)


def test_wrong_among_all_and_right_among_some(tmp_path):
    """The constructed case: the second class always wins, unless it is no answer."""
    weight = torch.zeros(1000, 4)
    weight[1] = 1
    tensors = {'head.fc.weight': weight, 'head.fc.bias': torch.linspace(1, 0, 1000)}
    names = list(synsets('imagenet-1k').values())
    kept = select_classes(tensors, names, names[::5], 'file')
    features = torch.ones(4)
    assert (tensors['head.fc.weight'] @ features + tensors['head.fc.bias']).argmax() == 1
    assert kept['head.fc.weight'].shape == (200, 4)
    assert (kept['head.fc.weight'] @ features + kept['head.fc.bias']).argmax() == 0
    with pytest.raises(CheckpointError, match="'unicorn' of the data is none of them"):
        select_classes(tensors, names, ['unicorn', *names], 'file')


def test_pictures_of_the_evaluation(root, trained, tmp_path):
    evaluate(CIFAR, trained, work_dir=tmp_path / 'a', show_dir=tmp_path / 'shown', options=IN_PROCESS)
    names = {path.name for path in (tmp_path / 'shown').glob('*.png')}
    assert names == {f'{c}_{i}.png' for c in COLORS for i in range(3)} | {'overview.png'}


def test_finetune_an_image_folder(root, tmp_path, capsys):
    result = finetune(
        train=root / 'train',
        val=root / 'test',
        arch='nano',
        work_dir=tmp_path / 'run',
        epochs=2,
        batch=8,
    )
    assert result.metric == 'top-1' and result.value > 0.3 and result.best.is_file()
    config = Config.fromfile(result.config)
    assert config.model.type == 'ImageClassifier' and config.model.head.num_classes == 3
    assert config.train_dataloader.dataset.folders == ('blue', 'green', 'red')
    assert config.val_evaluator.topk == (1,)
    # other classes: the head starts from scratch, the backbone from these weights
    other = tmp_path / 'other'
    for split in ('train', 'val'):
        write_folders(other / split, dict(warm='red', cold='blue'), 4)
    second = finetune(
        train=other / 'train',
        val=other / 'val',
        arch='nano',
        work_dir=tmp_path / 'b',
        start=result.best,
        epochs=1,
    )
    assert second.plan.start == 'model' and 'initialized from scratch' in capsys.readouterr().out
    assert Config.fromfile(second.config).model.backbone.frozen_stages == 1


def test_a_classifier_is_the_start_of_a_detector(trained):
    """The backbone is loaded, its BatchNorm is not: detectors have LayerNorms there."""
    net = FasterViT('nano')
    before = net.out_norms['3'].weight.clone()
    report = load_published(net, next(trained.glob('epoch_*.pth')))
    assert 'out_norms.3.weight' in report.fresh and torch.equal(net.out_norms['3'].weight, before)
    weights = torch.load(next(trained.glob('epoch_*.pth')), weights_only=False)['state_dict']
    assert torch.equal(net.stem.conv1.weight, weights['backbone.stem.conv1.weight'])


def test_head_only_changes_the_head_only(root, trained, tmp_path):
    path = FOLDER / 'cifar10_nano_head.py'
    start = next(trained.glob('epoch_*.pth'))
    options = IN_PROCESS | {'train_cfg.max_epochs': 1, 'load_from': str(start)}
    model = train(path, work_dir=tmp_path / 'w', seed=1, options=options)
    before = torch.load(start, weights_only=False)['state_dict']
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {'head.fc.weight', 'head.fc.bias'}


# --- published weights


def test_published_classifiers_keep_their_head():
    """Reference logits of the published code through an mmpretrain classifier, by our renaming."""
    case = ReferenceCase('faster_vit_0_224')
    state = case.published_file()['state_dict']
    model = build(FOLDER / 'imagenet_fastervit0_300e.py').eval()
    tensors = to_classifier(state)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and all(name.endswith('num_batches_tracked') for name in missing)
    with torch.no_grad():
        logits = model(case.images(), mode='tensor')
    assert relative_error(logits.numpy(), case.numbers['logits']) < TOLERANCE


# --- MESA


def test_mesa_loss_is_the_formula():
    torch.manual_seed(0)
    student, teacher = 4 * torch.randn(5, 7).double(), 4 * torch.randn(5, 7).double()
    p, q = np.exp(teacher.numpy() / 3), np.exp(student.numpy() / 3)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    expected = 50 * (p * (np.log(p) - np.log(q))).sum(1).mean()
    assert mesa_loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert mesa_loss(student, student).item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_is_no_part_of_the_model():
    model, teacher = build(MESA), build(MESA)
    names = set(model.state_dict())
    model.set_teacher(teacher.train())
    assert set(model.state_dict()) == names and teacher not in list(model.modules())
    samples = [data_sample(i) for i in (0, 1)]
    losses = model.train().loss(torch.randn(2, 3, 64, 64), samples)
    assert not teacher.training and losses['loss_mesa'] > 0
    losses['loss_mesa'].backward()
    assert all(p.grad is None for p in teacher.parameters())
    model.set_teacher(None)
    assert 'loss_mesa' not in model.loss(torch.randn(2, 3, 64, 64), samples)


def data_sample(label):
    from mmpretrain.structures import DataSample

    return DataSample().set_gt_label(label)


MESA_RUN = [
    *(f'{split}_dataloader.{key}' for split in ('train', 'val') for key in ('num_workers=0',)),
    *(f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val')),
    'train_dataloader.batch_size=6',
    'train_cfg.max_epochs=5',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=1',
]


def start_mesa(work, root):
    arguments = [MESA, '--work-dir', work, '--seed', '3', '--resume', '--cfg-options', *MESA_RUN]
    place = dict(cwd=work.parent, log=work.parent / f'{work.name}.log')
    return start_verb('train', *arguments, **place, IMAGENET200_ROOT=str(root))


@pytest.mark.slow
def test_mesa_begins_after_a_quarter_and_survives_kill_9(imagenet, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    process = start_mesa(whole, imagenet)
    assert process.wait(300) == 0, (tmp_path / 'whole.log').read_text()[-3000:]
    process = start_mesa(broken, imagenet)
    deadline = time.time() + 200
    while not (broken / 'iter_13.pth').exists() and time.time() < deadline:  # within the fourth epoch
        time.sleep(0.02)
    process.kill()
    assert start_mesa(broken, imagenet).wait(300) == 0, (tmp_path / 'broken.log').read_text()[-3000:]
    first, second = (torch.load(path / 'iter_20.pth', weights_only=False) for path in (whole, broken))
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items()), part
    assert not any('teacher' in name for name in (*first['state_dict'], *first['ema_state_dict']))
    for one, other in zip(*(c['optimizer']['state'].values() for c in (first, second)), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ('exp_avg', 'exp_avg_sq'))
    # buffers are averaged, not copied
    averaged, current = first['state_dict'], first['ema_state_dict']
    name = 'backbone.stem.norm1.running_mean'
    assert not torch.equal(averaged[name], current[f'module.{name}'])
    # 5 epochs of 4 steps: with a teacher where epoch / 5 > 0.25, from the third epoch on
    with_teacher = set()
    for line in next(whole.glob('*/vis_data/scalars.json')).read_text().splitlines():
        entry = json.loads(line)
        if 'loss_mesa' in entry:
            with_teacher.add(entry['step'])
    assert with_teacher and min(with_teacher) == 9 and max(with_teacher) == 20


def test_mesa_needs_an_average(imagenet, tmp_path, monkeypatch):
    monkeypatch.setenv('IMAGENET200_ROOT', str(imagenet))
    options = IN_PROCESS | {'custom_hooks': [dict(type='MESAHook')]}
    with pytest.raises(UserError, match='MESAHook needs an EMAHook'):
        train(MESA, work_dir=tmp_path / 'w', options=options)


# --- folders


def make(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new('RGB', (32, 32)).save(root / name / 'a.png')
    return root


def test_order_of_the_classes(tmp_path):
    names = ('10', '9', '0')
    assert resolve_classes(make(tmp_path / 'numbers', *names))[0] == ['0', '9', '10']
    assert resolve_classes(make(tmp_path / 'words', 'b10', 'b9', 'a'))[0] == ['a', 'b10', 'b9']
    folders, classes = resolve_classes(make(tmp_path / 'v2', '10', '9', '0'), 'imagenet-1k', subset=True)
    assert folders == ['0', '9', '10'] and classes == ['tench', 'ostrich', 'brambling']
    folders, classes = resolve_classes(
        make(tmp_path / 'r', 'n01443537', 'n01440764'), 'imagenet-1k', subset=True
    )
    assert folders == ['n01440764', 'n01443537'] and classes == ['tench', 'goldfish']
    assert list_images(tmp_path / 'r', folders)[1] == (str(tmp_path / 'r' / 'n01443537' / 'a.png'), 1)


def test_names_of_imagenet():
    names = list(synsets('imagenet-1k').values())
    assert len(names) == len(set(names)) == 1000
    assert len(set(synsets('imagenet-21k').values())) == 21841
    assert synsets('imagenet-1k')['n02012849'] == 'crane (n02012849)'  # the bird; n03126707 lifts loads


@pytest.mark.parametrize(
    ('folders', 'options', 'message'),
    [
        ((), {}, 'has no folders of classes'),
        (('cat',), {}, 'has one class, cat'),
        (('cat', 'dgo'), dict(folders=['cat', 'dog']), "'dgo' is none of the 2 classes .did you mean 'dog'"),
        (('cat',), dict(folders=['cat', 'dog']), "has no folder 'dog'"),
        (('cat', 'dog'), dict(folders='imagenet'), "folders='imagenet': give the names"),
        (('cat', 'dog'), dict(classes=['one']), 'has 2 classes, but 1 names are given'),
    ],
)
def test_folders_that_do_not_fit(tmp_path, folders, options, message):
    (tmp_path / 'root').mkdir()
    with pytest.raises(UserError, match=message) as error:
        resolve_classes(make(tmp_path / 'root', *folders), **options)
    assert '\n' not in str(error.value)


def bad_input(case, root, tmp_path):
    """Arguments of a tool that meets bad data, and a part of the message."""
    train_folder, val = root / 'train', root / 'test'
    if case == 'no classes':
        return 'finetune', ['--train', val / 'red', '--val', val / 'red'], 'has no folders of classes'
    if case == 'unknown class in val':
        other = write_folders(tmp_path / 'val', dict(blue='blue', green='green', purple='red'), 2)
        return 'finetune', ['--train', train_folder, '--val', other], "'red' of train, not of val"
    if case == 'unreadable':
        other = write_folders(tmp_path / 'val', {color: color for color in COLORS}, 2)
        (other / 'red' / '0.png').write_bytes(b'no image')
        return 'finetune', ['--train', train_folder, '--val', other], 'red/0.png'
    return 'finetune', ['--train', tmp_path / 'nowhere', '--val', val], 'nowhere'


@pytest.mark.parametrize('case', ['no classes', 'unknown class in val', 'unreadable', 'missing'])
def test_finetune_rejects_bad_folders_in_one_line(root, tmp_path, case):
    name, arguments, message = bad_input(case, root, tmp_path)
    process = verb(name, *arguments, '--arch', 'nano', '--work-dir', tmp_path / 'run', cwd=tmp_path)
    assert_one_line_error(process, message)
    assert not (tmp_path / 'run').exists()


def test_a_checkpoint_of_other_classes_is_refused(root, trained, tmp_path):
    other = write_folders(tmp_path / 'other', dict(warm='red', cold='blue'), 2)
    with pytest.raises(CheckpointError, match="has 3 classes, and 'cold' of the data is none of them"):
        evaluate(CIFAR, trained, work_dir=tmp_path / 'a', data=other, options=IN_PROCESS)
    with pytest.raises(UserError, match='has no test data in one folder per class'):
        evaluate(ROOT / 'configs' / 'demo' / 'fpn_shapes.py', trained, work_dir=tmp_path / 'b', data=other)


def test_check_data_of_folders(root, tmp_path):
    process = verb('check-data', root, cwd=tmp_path)
    assert process.returncode == 0 and 'images in one folder per class: train' in process.stdout
    assert 'red' in process.stdout and 'no problems found' in process.stdout
    bad = write_folders(tmp_path / 'bad' / 'train', {color: color for color in COLORS}, 2).parent
    write_folders(bad / 'val', dict(red='red', green='green'), 1)
    (bad / 'train' / 'red' / 'copy.png').write_bytes((bad / 'train' / 'green' / '0.png').read_bytes())
    (bad / 'train' / 'red' / 'broken.png').write_bytes(b'no image')
    (bad / 'val' / 'red' / '1.png').write_bytes((bad / 'train' / 'red' / '0.png').read_bytes())
    process = verb('check-data', bad, '--json', tmp_path / 'found.json', cwd=tmp_path)
    assert process.returncode == 1
    kinds = {finding['kind'] for finding in json.loads((tmp_path / 'found.json').read_text())}
    assert kinds == {'content-in-classes', 'image-unreadable', 'classes-differ', 'splits-overlap'}


def test_unpacking(tmp_path):
    from io import BytesIO

    from fastervit_backbone.datasets.packed import unpack_images

    files = []
    for color in COLORS.values():
        buffer = BytesIO()
        Image.new('RGB', (32, 32), color).save(buffer, 'JPEG')
        files.append(buffer.getvalue())
    source = tmp_path / 'packed'
    source.mkdir()
    (source / 'classes.json').write_text(json.dumps([dict(wnid='n1', name='one'), dict(name='two')]))
    packed = dict(jpeg=np.frombuffer(b''.join(files), np.uint8), sizes=np.array([len(f) for f in files]))
    np.savez(source / 'train.npz', **packed, labels=np.array([0, 1, 1]))
    assert unpack_images(source, tmp_path / 'out') == {'train': 3}
    found = {str(p.relative_to(tmp_path / 'out')): p.read_bytes() for p in (tmp_path / 'out').rglob('*.jpg')}
    assert found == {
        'train/n1/000000.jpg': files[0],
        'train/two/000001.jpg': files[1],
        'train/two/000002.jpg': files[2],
    }
    np.savez(source / 'train.npz', **packed, labels=np.array([0, 1, 2]))
    with pytest.raises(UserError, match=r'train\.npz: its parts do not fit each other'):
        unpack_images(source, tmp_path / 'out')
