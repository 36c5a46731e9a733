"""Curves of mmengine's logs: one run, resumed runs, several runs, and files that are not logs."""

import json

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.evaluation.curves import plot_logs, read_log
from fastervit_backbone.utils.errors import UserError
from tests.helpers import QUICK, ROOT, assert_one_line_error
from tests.processes import verb


def write_log(folder, stamp, iterations, scale=1.0, torn=False):
    path = folder / stamp / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = []
    for i in iterations:
        lines.append(json.dumps(dict(loss=scale / i, lr=1e-3, iter=i, step=i)))
        if i % 10 == 0:
            lines.append(json.dumps({'coco/bbox_mAP': i / 100, 'step': i // 10}))
    path.write_text('\n'.join(lines) + ('\n{"loss": 0.' if torn else '\n'))
    return path


def test_resumed_run(tmp_path):
    write_log(tmp_path, '20260101_000000', range(5, 31, 5), torn=True)
    write_log(tmp_path, '20260102_000000', range(25, 51, 5), scale=2)  # from the checkpoint at 20
    write_log(tmp_path, '20260103_000000', []).write_text('')  # a test run
    log = read_log(tmp_path)
    loss = log.curve('loss')
    assert loss[:, 0].tolist() == list(range(5, 51, 5))
    assert loss[:, 1].tolist() == [1 / i if i < 25 else 2 / i for i in range(5, 51, 5)]
    points = [[10, 0.1], [20, 0.2], [30, 0.3], [40, 0.4], [50, 0.5]]  # at iterations, not epochs
    assert log.curve('coco/bbox_mAP').tolist() == points


def test_evaluations_are_at_their_own_iteration(tmp_path):
    """An epoch of 175 iterations logs its 170th as the last one; runs of iterations name theirs."""
    by_epoch = [
        line
        for epoch in (1, 2, 3)
        for line in (
            *(dict(loss=1.0, epoch=epoch, iter=(epoch - 1) * 175 + i) for i in range(10, 175, 10)),
            {'coco/bbox_mAP': 0.1 * epoch, 'step': epoch},
        )
    ]
    by_iteration = [dict(loss=1.0, iter=50, step=50), dict(mIoU=30.0, step=75), dict(loss=1.0, iter=100)]
    expected = {'coco/bbox_mAP': [175, 350, 525], 'mIoU': [75]}
    for (key, iterations), lines in zip(expected.items(), (by_epoch, by_iteration), strict=True):
        path = tmp_path / f'{len(iterations)}.json'
        path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
        assert read_log(path).curve(key)[:, 0].tolist() == iterations


def test_pictures(tmp_path):
    for name in ('one', 'two'):
        write_log(tmp_path / name, '20260101_000000', range(1, 101))
    logs = [read_log(tmp_path / name) for name in ('one', 'two')]
    assert [log.name for log in logs] == ['one', 'two']
    assert plot_logs(logs, tmp_path / 'a.png', smooth=9) == ['loss', 'lr', 'coco/bbox_mAP']
    assert np.asarray(Image.open(tmp_path / 'a.png').convert('L')).std() > 10
    assert plot_logs(logs[:1], tmp_path / 'a.svg', ['lr']) == ['lr']
    assert '<svg' in (tmp_path / 'a.svg').read_text()
    for keys, out, smooth, message in (
        (
            ['los'],
            'b.png',
            1,
            r"no log has 'los' \(did you mean 'loss'\?\): choose from coco/bbox_mAP, loss, lr",
        ),
        ([], 'b.xyz', 1, 'matplotlib writes'),
        ([], 'b.png', 0, 'smooth 0'),
    ):
        with pytest.raises(UserError, match=message):
            plot_logs(logs, tmp_path / out, keys, smooth)
    assert not list(tmp_path.glob('*b.*'))


def test_no_logs(tmp_path):
    (tmp_path / 'bad.json').write_text('words\n{"loss": 1, "iter": 1}\n')
    (tmp_path / 'list.json').write_text('[1]\n')
    (tmp_path / 'eval.json').write_text('{"mIoU": 3, "step": 0}\n')
    for name, message in (
        ('.', 'no training log'),
        ('bad.json', 'line 1 is not JSON'),
        ('list.json', 'not a record'),
        ('eval.json', 'no training iter'),
    ):
        with pytest.raises(UserError, match=message):
            read_log(tmp_path / name)
    (tmp_path / 'weights.pth').write_bytes(bytes(range(256)))
    for name in ('one', 'two'):
        write_log(tmp_path / 'runs' / name, '20260101_000000', range(1, 5))
    for name, message in (
        ('weights.pth', 'is not a log of mmengine'),
        ('runs', r'several work dirs \(one, two\)'),
    ):
        with pytest.raises(UserError, match=message):
            read_log(tmp_path / name)
    done = verb('plot-logs', 'absent', '--out', 'a.png', cwd=tmp_path)
    assert_one_line_error(done, 'no training log')


def test_log_of_the_demo(tmp_path):
    log = ROOT / 'docs' / 'logs' / 'upernet_shapes.json'
    done = verb('plot-logs', log, log, '--names', 'first', 'again', '--out', 'curves.png', cwd=tmp_path)
    assert done.returncode == 0 and 'loss, lr, mIoU of 2 runs' in done.stdout, done.stderr


def test_tensorboard(tmp_path):
    """The snippet of docs/analyse.md writes event files that TensorBoard reads."""
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from fastervit_backbone.datasets.shapes import make_shapes

    shapes = make_shapes(tmp_path / 'shapes', train=4, val=1, size=(64, 96))
    demo, loggers = (ROOT / 'configs' / p for p in ('demo/fpn_shapes.py', '_base_/loggers.py'))
    config = tmp_path / 'mine.py'
    config.write_text(
        f'_base_ = [{str(demo)!r}, {str(loggers)!r}]\n'
        'visualizer = dict(vis_backends={{_base_.log_to_tensorboard}})\n'
    )
    options = ['--cfg-options', *QUICK, 'train_cfg.max_iters=2', 'train_cfg.val_interval=9']
    options += ['train_dataloader.batch_size=2', 'default_hooks.logger.interval=1']
    done = verb('train', config, '--work-dir', 'work', *options, cwd=tmp_path, SHAPES_ROOT=str(shapes))
    assert done.returncode == 0, done.stderr
    events = EventAccumulator(str(next((tmp_path / 'work').rglob('events.out*')).parent))
    events.Reload()
    losses = [e.value for e in events.Scalars('loss')]
    assert len(losses) == 2
    assert losses == pytest.approx(read_log(tmp_path / 'work').curve('loss')[:, 1].tolist(), rel=1e-4)
