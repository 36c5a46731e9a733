"""The screen of a run: few lines that say what is done; the log file has everything."""

import logging
import re
import warnings

import pytest

pytest.importorskip('mmdet')

from mmengine.logging import MMLogger

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.console import quiet_logger, restore_screen
from fastervit_backbone.utils.log import log
from fastervit_backbone.utils.verbosity import is_verbose, verbosely
from tests.helpers import CASCADE, QUICK
from tests.processes import verb


def test_training_and_evaluation_in_few_lines(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=8, val=3, size=(64, 96))
    options = ['--cfg-options', *QUICK, 'train_cfg.max_epochs=2', 'train_cfg.val_interval=1']
    done = verb('train', CASCADE, '--work-dir', 'run', *options, cwd=tmp_path, SHAPES_ROOT=str(root))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    patterns = [
        'operators: torchvision.*',
        r'work dir: .*run, whole log: (.*\.log)',
        r'training: 2 epochs of 2 steps, 8 images, learning rate 0\.0016',
        r'step 1 of 4 \(25%\): loss [\d.]+, [\d.]+ s a step, .* left',
        r'step 2 of 4 \(50%\): .*',
        r'epoch 1: (box AP [\d.]+, mask AP [\d.]+|nothing found)',
        r'step 3 of 4 \(75%\): .*',
        r'step 4 of 4 \(100%\): loss [\d.]+, [\d.]+ s a step',
        r'epoch 2: (box AP [\d.]+, mask AP [\d.]+|nothing found)',
        r'evaluate: fastervit test .*run/cascade_shapes\.py .*run',
    ]
    if 'operators' not in lines[0]:  # mmcv's own
        patterns = patterns[1:]
    assert len(lines) == len(patterns), done.stdout
    found = [re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)]
    assert all(found), done.stdout
    whole = next(m for m in found if m.re.pattern.startswith('work dir'))[1]
    with open(whole) as file:
        assert 'Epoch(train)' in file.read()
    done = verb('test', CASCADE, 'run', cwd=tmp_path, SHAPES_ROOT=str(root))
    assert done.returncode == 0 and 'mmengine - INFO' not in done.stdout, done.stderr
    assert 'evaluating 3 images' in done.stdout and 'step 3 of 3 (100%)' in done.stdout
    done = verb('test', CASCADE, 'run', '--verbose', cwd=tmp_path, SHAPES_ROOT=str(root))
    assert 'mmengine - INFO' in done.stdout and not is_verbose()


def test_other_loggers_and_warnings_are_left_as_they_were(tmp_path, capsys):
    class Run:
        hooks = ()

    logger = MMLogger(f'console_{tmp_path.name}', log_file=str(tmp_path / 'x.log'))
    quiet_logger(logger)
    logger.info('of a library')
    logger.error('bad')
    warnings.warn('careful', UserWarning, stacklevel=1)
    restore_screen(Run())
    assert capsys.readouterr().out == 'error: bad\n'
    text = (tmp_path / 'x.log').read_text()
    assert 'of a library' in text and 'bad' in text and 'careful' in text
    assert logging.getLogger('py.warnings').propagate
    with pytest.warns(UserWarning, match='again'):
        warnings.warn('again', UserWarning, stacklevel=1)
    with verbosely():
        assert is_verbose()


def test_our_own_messages_are_shown(tmp_path, capsys):
    logger = MMLogger.get_instance(f'ours_{tmp_path.name}', log_file=str(tmp_path / 'x.log'))
    quiet_logger(logger)
    log('using its checkpoint')
    assert capsys.readouterr().out == 'using its checkpoint\n'
    logging.captureWarnings(False)
