"""Runs that are killed, interrupted, out of disk space or given bad data end like the uninterrupted run."""

import copy
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from torch import nn

from fastervit_backbone import FasterViT
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.hooks.accumulated_gradients import AccumulatedGradientsHook
from fastervit_backbone.engine.hooks.non_finite_guard import NonFiniteGuardHook, first_non_finite
from fastervit_backbone.engine.hooks.unreadable_images import UnreadableImageHook
from fastervit_backbone.engine.runner.build import write_config
from fastervit_backbone.engine.runner.loops import EarlyStopping, ResumableEpochLoop
from fastervit_backbone.engine.runner.readable_errors import readable_errors
from fastervit_backbone.engine.runner.resumable_runner import ResumableRunner
from fastervit_backbone.engine.runner.sampling import FaultTolerantDataset, ResumableBatchSampler, SeededIndex
from fastervit_backbone.engine.runner.work_dir import checkpoints_of
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.train import train
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, FEW_REGIONS, FPN, ROOT, assert_one_line_error
from tests.mm_helpers import InfiniteLoss, ToyModel, save_untrained
from tests.processes import environment, start_verb, verb

EMA = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1, update_buffers=True)]
EPOCHS = [
    'train_cfg.max_epochs=3',
    'train_cfg.val_interval=1',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=2',
]
EPOCHS += [
    'default_hooks.checkpoint.save_best=coco/bbox_mAP',
    f'custom_hooks={EMA}',
    'model.test_cfg.rcnn.score_thr=0.0',
]
IN_PROCESS = {
    f'{split}_dataloader.{key}': value
    for split in ('train', 'val')
    for key, value in (('num_workers', 0), ('persistent_workers', False))
}
EPOCHS += [f'{key}={value}' for key, value in FEW_REGIONS.items()]
OF_CASCADE = IN_PROCESS | FEW_REGIONS
SCHEDULE_REPLACED = "the config's schedule replaces the checkpoint's"


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=12, val=3, size=(64, 96))


@pytest.fixture
def root(shapes, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    return shapes


def start(work, shapes, config, options):
    arguments = [
        config,
        '--work-dir',
        work,
        '--seed',
        '3',
        '--resume',
        '--verbose',
        '--cfg-options',
        *options,
    ]
    place = dict(cwd=work.parent, log=work.parent / f'{work.name}.log')
    return start_verb('train', *arguments, **place, SHAPES_ROOT=str(shapes))


def finish(work, shapes, config, options):
    process = start(work, shapes, config, options)
    assert process.wait(300) == 0, (work.parent / f'{work.name}.log').read_text()[-3000:]


def assert_same(first, second, path=''):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_same(first[key], second[key], f'{path}.{key}')
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), path
        for i, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f'{path}.{i}')
    else:
        assert first == second, path


def assert_same_end(first, second, name):
    """Compare weights, EMA, optimizer and schedule of two runs bit by bit."""
    contents = [torch.load(work / name, weights_only=False) for work in (first, second)]
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_same(*(content[key] for content in contents), key)
    assert contents[0]['meta']['iter'] == contents[1]['meta']['iter']


@pytest.mark.long
@pytest.mark.parametrize('kills', [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills, shapes, tmp_path):
    options = ['train_dataloader.num_workers=2', f'custom_hooks={EMA}', 'default_hooks.checkpoint.interval=2']
    options += [f'train_cfg.max_iters={20 * kills}', 'train_cfg.val_interval=7', 'param_scheduler.1.end=200']
    finish(tmp_path / 'uninterrupted', shapes, FPN, options)
    broken, delays = tmp_path / 'broken', random.Random(kills)
    for _ in range(kills):
        before = len(list(broken.glob('*/*.log')))
        process = start(broken, shapes, FPN, options)
        while len(list(broken.glob('*/*.log'))) == before and process.poll() is None:
            time.sleep(0.05)
        time.sleep(delays.uniform(0.5, 4))
        assert process.poll() is None, 'the run ended before it was killed'
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finish(broken, shapes, FPN, options)
    assert_same_end(tmp_path / 'uninterrupted', broken, f'iter_{20 * kills}.pth')
    assert not list(broken.glob('.*.part'))


def test_interrupted_within_an_epoch_and_killed_in_an_evaluation(shapes, tmp_path):
    uninterrupted, broken = tmp_path / 'uninterrupted', tmp_path / 'broken'
    finish(uninterrupted, shapes, CASCADE, EPOCHS)
    process = start(broken, shapes, CASCADE, [*EPOCHS, 'default_hooks.logger.interval=1'])
    while process.poll() is None and 'Epoch(train) [2][2/6]' not in (tmp_path / 'broken.log').read_text():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)  # the whole group, workers included, like job schedulers
    assert process.wait(60) == 128 + signal.SIGTERM
    log = (tmp_path / 'broken.log').read_text()
    assert 'stopped: SIGTERM at iteration' in log and 'use --resume to continue' in log
    assert 'Traceback' not in log
    assert checkpoints_of(broken)[0].name == 'interrupted.pth'
    finish(broken, shapes, CASCADE, EPOCHS)
    assert_same_end(uninterrupted, broken, 'epoch_3.pth')
    assert not (broken / 'interrupted.pth').exists()

    # as after a kill between the checkpoint of the second epoch and the end of its evaluation
    again = tmp_path / 'again'
    again.mkdir()
    for path in (uninterrupted / 'epoch_2.pth', *uninterrupted.glob('best_*_epoch_1.pth')):
        shutil.copy(path, again)
    finish(again, shapes, CASCADE, EPOCHS)
    assert_same_end(uninterrupted, again, 'epoch_3.pth')
    log = (tmp_path / 'again.log').read_text()
    assert log.index('Epoch(val) [2]') < log.index('Epoch(val) [3]')
    assert [p.name for p in again.glob('best_*')] == [p.name for p in uninterrupted.glob('best_*')]


def test_no_space_and_no_memory_for_workers(shapes, tmp_path):
    options = ' '.join(f'{k}={v}' for k, v in IN_PROCESS.items())
    options += ' default_hooks.checkpoint.interval=1 train_cfg.val_interval=9'
    train_tool = f'{sys.executable} {ROOT / "tools" / "train.py"} {FPN} --work-dir work'
    full_disk = f'ulimit -f 20000; {train_tool} --resume --cfg-options {options} train_cfg.max_iters=4'
    run = dict(
        shell=True,
        cwd=tmp_path,
        env=environment(SHAPES_ROOT=str(shapes)),
        capture_output=True,
        text=True,
        executable='/bin/bash',
    )
    first_run = [
        'train',
        FPN,
        '--work-dir',
        'work',
        '--cfg-options',
        *options.split(),
        'train_cfg.max_iters=2',
    ]
    assert verb(*first_run, cwd=tmp_path, SHAPES_ROOT=str(shapes)).returncode == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / 'work').glob('iter_*.pth')}
    assert_one_line_error(
        subprocess.run(full_disk, **run),
        r'cannot write the checkpoint .*iter_3\.pth \(File too large\): make space',
    )
    after = {p.name: p.read_bytes() for p in (tmp_path / 'work').glob('*.pth')}
    assert list(after) == ['iter_2.pth'] and after['iter_2.pth'] == before['iter_2.pth']
    assert not list((tmp_path / 'work').glob('.*.part'))

    (tmp_path / 'dies.py').write_text(
        'import os\nfrom torch.utils.data import get_worker_info\n'
        'from mmcv.transforms import BaseTransform\nfrom mmengine.registry import TRANSFORMS\n'
        '@TRANSFORMS.register_module()\nclass Dies(BaseTransform):\n'
        '    def transform(self, results):\n        if get_worker_info():\n'
        '            os.kill(os.getpid(), 9)\n        return results\n'
    )
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{FPN}'\n"
        "custom_imports = dict(imports=['fastervit_backbone', 'dies'])\n"
        "train_dataloader = dict(num_workers=1, dataset=dict(pipeline=[dict(type='Dies')]))\n"
    )
    done = verb(
        'train',
        'config.py',
        cwd=tmp_path,
        SHAPES_ROOT=str(shapes),
        PYTHONPATH=f'{ROOT}{os.pathsep}{tmp_path}',
    )
    assert_one_line_error(done, r'a data loading worker died .*num_workers=0')


def test_images_that_cannot_be_read(root, tmp_path, monkeypatch):
    damaged = tmp_path / 'shapes'
    shutil.copytree(root, damaged)
    monkeypatch.setenv('SHAPES_ROOT', str(damaged))
    bad = sorted((damaged / 'images' / 'train').iterdir())[:2]
    bad[0].write_bytes(bad[0].read_bytes()[:60])
    bad[1].write_text('no image')
    options = OF_CASCADE | {
        'train_cfg.max_epochs': 2,
        'train_cfg.val_interval': 3,
        'train_dataloader.batch_size': 3,
    }
    train(CASCADE, work_dir=tmp_path / 'work', seed=0, options=options)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    for i, path in enumerate(bad):
        assert log.count(f'{path} cannot be read') == 1
        assert f'replaced by another image ({i + 1} of 10)' in log
    with pytest.raises(UserError, match=r'2 images cannot be read, the last .*--max-unreadable is 1'):
        train(CASCADE, work_dir=tmp_path / 'strict', seed=0, max_unreadable=1, options=options)
    for path in (damaged / 'images' / 'train').iterdir():  # as when a disk is disconnected
        path.unlink()
        path.write_text('')
    with pytest.raises(UserError, match=r'^20 images in a row cannot be read, .*fastervit check-data$'):
        train(CASCADE, work_dir=tmp_path / 'none', options=options | {'train_dataloader.num_workers': 1})


def test_other_errors_are_readable():
    config = Config(
        dict(train_dataloader=dict(batch_size=4, num_workers=2), work_dir='w', optim_wrapper=dict())
    )
    with pytest.raises(RuntimeError, match='stack expects'), readable_errors(config):
        raise RuntimeError(
            'Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback: stack expects'
        )
    with (
        pytest.raises(UserError, match=r'out of GPU memory at batch 4 .*batch_size=2'),
        readable_errors(config),
    ):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to')
    with (
        pytest.raises(UserError, match=r'cannot write w/a .*No space left on device.*: make space'),
        readable_errors(config),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'w/a')
    with pytest.raises(FileNotFoundError), readable_errors(config):
        open('absent')


def test_resumed_with_another_batch_and_learning_rate(root, tmp_path, monkeypatch):
    """An epoch of a different length is restarted; optimizer and schedule get the config's learning rate."""
    options = OF_CASCADE | {
        'train_cfg.val_interval': 9,
        'train_dataloader.batch_size': 2,
        'train_cfg.max_epochs': 2,
    }
    whole = train(CASCADE, work_dir=tmp_path / 'whole', seed=0, options=options)
    assert isinstance(whole, nn.Module)
    first = torch.load(tmp_path / 'whole' / 'epoch_1.pth', weights_only=False)
    assert (first['meta']['iter'], first['meta']['epoch_begin'], first['meta']['epoch_length']) == (6, 6, 6)
    changed = options | {'train_dataloader.batch_size': 3, 'optim_wrapper.optimizer.lr': 1.6e-4}
    train(
        CASCADE,
        work_dir=tmp_path / 'other',
        resume=tmp_path / 'whole' / 'epoch_1.pth',
        auto_scale_lr=False,
        options=changed,
    )
    last = torch.load(tmp_path / 'other' / 'epoch_2.pth', weights_only=False)
    assert (last['meta']['iter'], last['meta']['epoch_begin']) == (10, 10)
    ratios = [
        a['initial_lr'] / b['initial_lr']
        for a, b in zip(last['optimizer']['param_groups'], first['optimizer']['param_groups'], strict=True)
    ]
    # 1.6e-4 instead of 8e-4, which is 1.6e-3 scaled to batch 2
    assert ratios == pytest.approx([0.2] * len(ratios))
    log = next((tmp_path / 'other').glob('*/*.log')).read_text()
    assert 'the learning rate is 0.2 times that of the checkpoint' in log

    loop = SimpleNamespace(
        _begin=0,
        _iter=8,
        _epoch=1,
        dataloader=[0] * 4,
        runner=SimpleNamespace(logger=SimpleNamespace(warning=print)),
    )
    for meta, begin in (
        (dict(epoch=1, epoch_begin=6, epoch_length=4), 6),  # within the epoch
        (dict(epoch=1, epoch_begin=6, epoch_length=6), 8),  # different length: restarted
        (dict(epoch=1), 4),  # of an earlier version, without these keys
        (dict(epoch=0), 8),  # impossible
    ):
        ResumableEpochLoop.restore_position(loop, meta)
        assert loop._begin == begin


def test_steps_that_are_not_finite(root, tmp_path):
    options = IN_PROCESS | {
        'train_cfg.max_iters': 30,
        'optim_wrapper.optimizer.lr': 1e30,
        'optim_wrapper.clip_grad.max_norm': 1e30,
    }
    options |= {'param_scheduler.0.start_factor': 1.0, 'default_hooks.checkpoint.interval': 1}
    last = r'last at iteration \d+ \(images .*\.png\)'
    with pytest.raises(UserError, match=f'not finite in 3 steps in a row, {last}; first not finite: the'):
        train(FPN, work_dir=tmp_path, seed=0, max_non_finite=3, options=options)
    report = json.loads((tmp_path / 'non_finite.json').read_text())
    assert report['iteration'] >= 3 and len(report['images']) == 4
    assert report['first'].startswith('the ') and report['losses']


def guarded(model, **options):
    """Return a guarded training step on a model, the guard, and the list of its warnings."""
    wrapper = OptimWrapper(
        torch.optim.AdamW(model.parameters(), lr=0.1), clip_grad=dict(max_norm=1), **options
    )
    guard, warnings = NonFiniteGuardHook(2), []
    logger = SimpleNamespace(warning=warnings.append)
    runner = SimpleNamespace(
        optim_wrapper=wrapper, model=model, iter=4, epoch=0, seed=0, rank=0, logger=logger, work_dir='.'
    )
    guard.before_train(runner)

    def step(inputs):
        batch = dict(inputs=inputs, data_samples=[BaseDataElement(metainfo=dict(img_id=7))])
        guard.before_train_iter(runner, 0, batch)
        outputs = model.train_step(batch, wrapper)
        guard.after_train_iter(runner, 0, batch, outputs)

    return step, guard, warnings


@pytest.mark.parametrize('accumulated', [1, 3])
def test_an_infinite_loss_with_finite_gradients_moves_nothing(accumulated):
    """The loss is checked before the step; one bad iteration of several accumulated ones skips the step."""
    model = InfiniteLoss()
    step, guard, warnings = guarded(model, accumulative_counts=accumulated)
    good = torch.randn(4, 2)
    for _ in range(accumulated):
        step(good)
    before = copy.deepcopy(model.state_dict())
    step(torch.full((4, 2), 11.0) + good)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items() if 'num_batches' not in k)
    for _ in range(accumulated - 1):
        step(good)
    weights = [k for k in before if 'running' not in k and 'num_batches' not in k]
    assert all(torch.equal(model.state_dict()[k], before[k]) for k in weights)
    assert len(warnings) == 1 and 'the loss is not finite at iteration 5' in warnings[0]
    assert guard.skipped == 1
    for _ in range(accumulated):
        step(good)
    assert guard.skipped == 0 and not any(torch.equal(model.state_dict()[k], before[k]) for k in weights)


def test_a_non_finite_step_changes_nothing():
    model = ToyModel()
    step, guard, warnings = guarded(model)
    good, bad = torch.randn(4, 2), torch.full((4, 2), float('nan'))
    step(good)
    before = copy.deepcopy(model.state_dict())
    step(bad)
    after = model.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in after if 'num_batches' not in k)
    assert len(warnings) == 1 and 'iteration 5 (images 7)' in warnings[0]
    assert '(1 of 2 in a row)' in warnings[0]
    step(good)  # resets the count
    assert guard.skipped == 0 and not all(torch.equal(model.state_dict()[k], before[k]) for k in before)
    assert first_non_finite(model, dict(inputs=bad)) == 'the images, as the model gets them'
    with torch.no_grad():
        model.layer.weight.fill_(3e38)
        assert first_non_finite(model, dict(inputs=good)) == 'the output of layer (Linear)'
        model.layer.bias.fill_(float('inf'))
    assert first_non_finite(model, dict(inputs=good)) == 'the parameter layer.bias'


class Numbers(torch.utils.data.Dataset):
    @property
    def metainfo(self):
        return dict(classes=('a',))

    def __len__(self):
        return 10

    def __getitem__(self, index):
        assert type(index) is int
        return dict(inputs=torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()]))


@pytest.mark.parametrize('workers', [0, 3])
@pytest.mark.parametrize('endless', [False, True])
def test_batches_from_any_iteration_on(workers, endless):
    from mmengine.dataset import DefaultSampler, InfiniteSampler

    def batches(first, count, workers):
        sampler = (InfiniteSampler if endless else DefaultSampler)(Numbers(), shuffle=True, seed=5)
        batch_sampler = ResumableBatchSampler(sampler, 3)
        batch_sampler.start_at(100 + first, first, 5)
        loader = torch.utils.data.DataLoader(
            FaultTolerantDataset(Numbers()), batch_sampler=batch_sampler, num_workers=workers
        )
        return [b['inputs'] for b, _ in zip(loader, range(count), strict=False)]

    whole, rest = batches(0, 4, 0), batches(1, 3, workers)
    assert len(whole) == 4 and all(torch.equal(a, b) for a, b in zip(whole[1:], rest, strict=True))
    assert len({float(v) for batch in whole for v in batch[:, 1]}) > 8  # samples are random independently


def test_a_seeded_index_is_an_index():
    import pickle

    index = pickle.loads(pickle.dumps(SeededIndex(4, (1, 2, 4))))
    assert index == 4 and [10, 11, 12, 13, 14][index] == 14 and index.seed == (1, 2, 4)


def test_unreadable_images_are_counted_once():
    hook, warnings = UnreadableImageHook(1), []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=warnings.append))
    batch = dict(
        data_samples=[BaseDataElement(metainfo=dict(unreadable=[('a.png', 'cut')])), BaseDataElement()]
    )
    for _ in range(3):
        hook.before_train_iter(runner, 0, batch)
    assert len(warnings) == 1
    batch['data_samples'][1].set_metainfo(dict(unreadable=[('b.png', 'gone')]))
    with pytest.raises(UserError, match=r'2 images cannot be read, the last b\.png \(gone\)'):
        hook.before_train_iter(runner, 0, batch)


def test_the_count_of_early_stopping_is_saved():
    saved, resumed = (EarlyStopping(begin=2, monitor='mIoU', patience=9) for _ in range(2))
    checkpoint = {}
    saved.after_val_epoch(SimpleNamespace(epoch=1), dict(mIoU=0.9))  # too early to count
    runner = SimpleNamespace(_resume=True, epoch=2)
    for score in (0.5, 0.4, 0.4):
        saved.after_val_epoch(runner, dict(mIoU=score))
    saved.before_save_checkpoint(runner, checkpoint)
    resumed.after_load_checkpoint(runner, checkpoint)
    assert (resumed.wait_count, resumed.best_score) == (2, 0.5)


def test_which_checkpoint_is_last(tmp_path):
    for i, name in enumerate(('epoch_1.pth', 'epoch_2.pth', 'interrupted.pth')):
        (tmp_path / name).write_bytes(b'x')
        os.utime(tmp_path / name, (i, i))
    assert [p.name for p in checkpoints_of(tmp_path)] == ['interrupted.pth', 'epoch_2.pth', 'epoch_1.pth']
    for note, first in (
        ('/gone/epoch_1.pth', 'epoch_1.pth'),
        ('', 'interrupted.pth'),
        ('/gone/epoch_9.pth', 'interrupted.pth'),
    ):
        (tmp_path / 'last_checkpoint').write_text(note)
        assert checkpoints_of(tmp_path)[0].name == first


def test_a_broken_last_checkpoint(root, tmp_path, capsys):
    options = IN_PROCESS | {
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 9,
        'default_hooks.checkpoint.interval': 1,
    }
    train(FPN, work_dir=tmp_path, seed=0, options=options)
    (tmp_path / 'iter_2.pth').write_bytes((tmp_path / 'iter_2.pth').read_bytes()[:1000])
    train(FPN, work_dir=tmp_path, resume=True, seed=4, options=options | {'train_cfg.max_iters': 3})
    out = capsys.readouterr().out
    assert f'resuming from the previous checkpoint {tmp_path / "iter_1.pth"}' in out
    assert 'seed 4 -> 0, the seed that the run started with' in out
    assert torch.load(tmp_path / 'iter_3.pth', weights_only=False)['meta']['iter'] == 3


def test_one_checkpoint_is_too_few(root, tmp_path, capsys):
    options = IN_PROCESS | {
        'train_cfg.max_iters': 1,
        'train_cfg.val_interval': 9,
        'default_hooks.checkpoint.max_keep_ckpts': 1,
    }
    train(FPN, work_dir=tmp_path, seed=0, options=options)
    assert 'max_keep_ckpts 1 -> 2' in capsys.readouterr().out
    assert Config.fromfile(tmp_path / FPN.name).default_hooks.checkpoint.max_keep_ckpts == 2
    weights = tmp_path / 'weights.pth'
    torch.save(
        dict(state_dict=torch.load(tmp_path / 'iter_1.pth', weights_only=False)['state_dict']), weights
    )
    with pytest.raises(
        UserError,
        match='has only weights and no state to resume: start from it with --cfg-options load_from=',
    ):
        train(FPN, work_dir=tmp_path, resume=weights, options=options)


@pytest.mark.long
def test_interrupted_between_accumulated_iterations(shapes, tmp_path):
    """The step is completed first, and the run ends as if uninterrupted."""
    options = [
        *EPOCHS,
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=9',
        'optim_wrapper.accumulative_counts=3',
    ]
    finish(tmp_path / 'uninterrupted', shapes, CASCADE, options)
    broken = tmp_path / 'broken'
    process = start(broken, shapes, CASCADE, [*options, 'default_hooks.logger.interval=1'])
    while process.poll() is None and 'Epoch(train) [1][1/6]' not in (tmp_path / 'broken.log').read_text():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert torch.load(broken / 'interrupted.pth', weights_only=False)['meta']['iter'] % 3 == 0
    finish(broken, shapes, CASCADE, options)
    assert_same_end(tmp_path / 'uninterrupted', broken, 'epoch_2.pth')


@pytest.mark.long
def test_a_step_with_batches_of_two_epochs(shapes, tmp_path):
    """A checkpoint between them has the gradients of the first ones."""
    options = [*EPOCHS, 'train_cfg.max_epochs=2', 'train_cfg.val_interval=9']
    options.append('optim_wrapper.accumulative_counts=4')  # an epoch has 6 batches
    finish(tmp_path / 'uninterrupted', shapes, CASCADE, options)
    broken = tmp_path / 'broken'
    broken.mkdir()
    shutil.copy(tmp_path / 'uninterrupted' / 'epoch_1.pth', broken)
    content = torch.load(broken / 'epoch_1.pth', weights_only=False)
    assert len(content['gradients']) > 100
    finish(broken, shapes, CASCADE, options)
    assert_same_end(tmp_path / 'uninterrupted', broken, 'epoch_2.pth')
    assert 'gradients' not in torch.load(broken / 'epoch_2.pth', weights_only=False)

    other = tmp_path / 'other'
    other.mkdir()
    torch.save({key: value for key, value in content.items() if key != 'gradients'}, other / 'epoch_1.pth')
    finish(other, shapes, CASCADE, options)
    ends = [torch.load(work / 'epoch_2.pth', weights_only=False)['state_dict'] for work in (broken, other)]
    assert any(not torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize('resumed', [False, True])
def test_accumulated_batches_equal_one_large_batch(resumed, tmp_path):
    """Four of one image and one of four, with a constant learning rate, over a resume within a step."""

    class Line(BaseModel):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(3, 1)

        def forward(self, x, y, mode):
            return dict(loss=((self.line(x)[:, 0] - y) ** 2).mean())

    generator = torch.Generator().manual_seed(0)
    data = [dict(x=torch.randn(3, generator=generator), y=torch.tensor(float(i))) for i in range(6)]

    def run(name, batch, count, epochs, resume=False):
        torch.manual_seed(1)
        runner = ResumableRunner(
            Line(),
            str(tmp_path / name),
            train_dataloader=dict(
                batch_size=batch,
                dataset=data,
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=4),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1), accumulative_counts=count),
            default_hooks=dict(logger=None, checkpoint=dict(type='CheckpointHook', interval=1)),
            randomness=dict(seed=2),
            resume=resume,
            load_from=str(tmp_path / name / 'epoch_1.pth') if resume else None,
            experiment_name=f'{tmp_path.name}{name}{resume}',
            cfg=dict(optim_wrapper=dict(accumulative_counts=count)),
        )
        runner.register_hook(AccumulatedGradientsHook())
        runner.train()
        return torch.cat([p.detach().flatten() for p in runner.model.parameters()])

    small = run('small', 1, 3, 4)  # of six images: the steps are those of batches of three
    if resumed:
        small = run('small', 1, 3, 4, resume=True)
    torch.testing.assert_close(small, run('large', 3, 1, 4), rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_a_finished_run_is_resumed_with_twice_the_epochs(root, tmp_path):
    """The config's schedule counts: the second half has the rates of a run with it from the start."""
    schedule = {f'param_scheduler.{i}.end': end for i, end in ((0, 4), (1, 2))}
    options = (
        OF_CASCADE
        | {'train_cfg.val_interval': 9, 'train_dataloader.batch_size': 4, 'train_cfg.max_epochs': 2}
        | schedule
    )
    longer = options | {'train_cfg.max_epochs': 4, 'param_scheduler.1.end': 4}
    train(CASCADE, work_dir=tmp_path / 'short', seed=0, options=options)
    train(CASCADE, work_dir=tmp_path / 'short', resume=True, options=longer)
    train(CASCADE, work_dir=tmp_path / 'long', seed=0, options=longer)
    logs = sorted((tmp_path / 'short').glob('*/*.log'))
    changes = [line for line in logs[-1].read_text().splitlines() if SCHEDULE_REPLACED in line]
    assert len(changes) == 1 and 'T_max 6 -> 12' in changes[0]
    assert 'learning rate 0.0001072 -> 0.0008' in changes[0]
    checkpoints = [
        torch.load(tmp_path / name / f'epoch_{epoch}.pth', weights_only=False)
        for name in ('short', 'long')
        for epoch in (3, 4)
    ]
    for short, long in zip(checkpoints[:2], checkpoints[2:], strict=True):
        groups = [
            [group['lr'] for group in content['optimizer']['param_groups']] for content in (short, long)
        ]
        assert (
            groups[0] == pytest.approx(groups[1], rel=1e-9, abs=1e-12)
            and short['meta']['iter'] == long['meta']['iter']
        )
    assert checkpoints[0]['optimizer']['param_groups'][0]['lr'] > 0


def test_the_config_that_a_resumed_run_writes(root, tmp_path, monkeypatch):
    """It has resume=False, names no checkpoint that will be deleted, and keeps its pretrained weights."""
    options = OF_CASCADE | {
        'train_cfg.val_interval': 9,
        'train_dataloader.batch_size': 4,
        'train_cfg.max_epochs': 1,
    }
    work = tmp_path / 'work'
    train(CASCADE, work_dir=work, seed=3, options=options)
    (work / 'epoch_1.pth').rename(work / 'interrupted.pth')
    (work / 'last_checkpoint').write_text(str(work / 'interrupted.pth'))
    published = tmp_path / 'nano.pth'
    torch.save(FasterViT('nano').state_dict(), published)
    start = {
        'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=str(published)),
        'model.backbone.norm_eval': True,
    }
    train(CASCADE, work_dir=work, resume=True, options=options | start | {'train_cfg.max_epochs': 2})
    written = Config.fromfile(work / 'cascade_shapes.py')
    assert (written.resume, written.load_from, written.randomness.seed) == (False, None, 3)
    assert written.model.backbone.init_cfg.checkpoint == str(published) and written.model.backbone.norm_eval
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=torch.load(work / 'epoch_2.pth', weights_only=False)['state_dict']), weights)
    old = tmp_path / 'old.py'  # as written by earlier versions
    old.write_text(f'{written.pretty_text}\nresume = True\nload_from = {str(work / "gone.pth")!r}\n')
    assert isinstance(evaluate(old, weights, work_dir=tmp_path / 'test'), dict)


def test_the_config_of_a_run_without_a_seed(root, tmp_path):
    """The written config can be evaluated; a config in another format is written as Python."""
    options = OF_CASCADE | {
        'train_cfg.val_interval': 9,
        'train_dataloader.batch_size': 4,
        'train_cfg.max_epochs': 1,
    }
    train(CASCADE, work_dir=tmp_path / 'work', options=options)
    assert isinstance(
        evaluate(tmp_path / 'work' / CASCADE.name, tmp_path / 'work', work_dir=tmp_path / 'test'), dict
    )
    given = tmp_path / 'given.json'
    Config(dict(scale=[1, 2])).dump(given)
    write_config(Config.fromfile(given), tmp_path / 'work')
    assert Config.fromfile(tmp_path / 'work' / 'given.py').to_dict() == dict(scale=[1, 2], resume=False)


@pytest.mark.long
@pytest.mark.parametrize('schedule', [pytest.param('plateau', marks=pytest.mark.slow), 'none'])
def test_resume_with_schedules_of_another_kind(schedule, root, tmp_path):
    """A schedule that follows a metric keeps its position; a removed schedule has no effect."""
    config = tmp_path / 'config.py'
    plateau = (
        "param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='coco/bbox_mAP', rule='greater', "
        'patience=0, factor=0.5, threshold=9.0, end=9)]\n'
    )
    config.write_text(f'_base_ = {str(CASCADE)!r}\n' + (plateau if schedule == 'plateau' else ''))
    options = OF_CASCADE | {
        'train_cfg.val_interval': 1,
        'train_dataloader.batch_size': 4,
        'model.test_cfg.rcnn.score_thr': 0.0,
    }
    train(config, work_dir=tmp_path / 'work', seed=0, options=options | {'train_cfg.max_epochs': 3})
    before = first_lr(tmp_path / 'work' / 'epoch_3.pth')
    if schedule == 'none':
        config.write_text(config.read_text() + 'param_scheduler = None\n')
    train(config, work_dir=tmp_path / 'work', resume=True, options=options | {'train_cfg.max_epochs': 4})
    after = first_lr(tmp_path / 'work' / 'epoch_4.pth')
    replaced = SCHEDULE_REPLACED in sorted((tmp_path / 'work').glob('*/*.log'))[-1].read_text()
    assert replaced == (schedule == 'none')
    assert after == pytest.approx(1.6e-3 if replaced else before / 2) and before < 1.6e-3


def first_lr(checkpoint):
    return torch.load(checkpoint, weights_only=False)['optimizer']['param_groups'][0]['lr']


def test_a_whole_model_needs_no_published_weights(root, tmp_path):
    """``load_from`` includes the backbone: weights that would be overwritten are not downloaded."""
    options = OF_CASCADE | {
        'train_cfg.val_interval': 9,
        'train_dataloader.batch_size': 4,
        'train_cfg.max_epochs': 1,
    }
    options['model.backbone.init_cfg'] = dict(
        type='Pretrained', checkpoint='http://127.0.0.1:9/published.pth'
    )
    start = save_untrained(CASCADE, tmp_path / 'start.pth')
    with pytest.raises(UserError, match=r'cannot download http://127\.0\.0\.1:9/published\.pth'):
        train(CASCADE, work_dir=tmp_path / 'absent', seed=0, options=options)
    train(CASCADE, work_dir=tmp_path / 'work', seed=0, options=options | {'load_from': str(start)})
    written = Config.fromfile(tmp_path / 'work' / 'cascade_shapes.py')
    assert written.load_from == str(start) and written.model.backbone.init_cfg.checkpoint.endswith(
        'published.pth'
    )


def test_too_little_memory_keeps_the_step(tmp_path):
    optimizer = dict(accumulative_counts=2)
    config = Config(
        dict(train_dataloader=dict(batch_size=4, num_workers=2), work_dir='w', optim_wrapper=optimizer)
    )
    with (
        pytest.raises(UserError, match=r'batch_size=2 with optim_wrapper\.accumulative_counts=4'),
        readable_errors(config),
    ):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to')
