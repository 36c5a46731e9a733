"""mmdet's and mmseg's own training scripts train our configs and import us only by ``custom_imports``."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import mmdet
import mmseg
from mmengine.config import Config

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.finetune import finetune
from tests.helpers import FPN, QUICK
from tests.processes import environment


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=4, val=2, size=(64, 96))


def train_with(toolkit, config, work_dir, *options):
    """Run the installed tools/train.py of a toolkit; return its log and the weights of its checkpoint."""
    path = Path(toolkit.__file__).parent / '.mim' / 'tools' / 'train.py'
    command = [sys.executable, path, config, '--work-dir', work_dir, '--cfg-options', *QUICK, *options]
    # imported by custom_imports only: in a process of its own
    run = dict(cwd=work_dir.parent, env=environment(), capture_output=True, text=True, timeout=300)
    done = subprocess.run(list(map(str, command)), **run)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    last = (work_dir / 'last_checkpoint').read_text()
    return log, torch.load(last, weights_only=False)['state_dict']


@pytest.mark.long
def test_mmdet_trains_a_finetune_config(shapes, tmp_path):
    """It names our backbone, optimizer constructor and early stopping, and has an EMA."""
    annotations = [shapes / 'annotations' / f'instances_{split}.json' for split in ('train', 'val')]
    images = [shapes / 'images' / split for split in ('train', 'val')]
    options = dict(model='cascade', arch='nano', preset='quick', start='nothing', config_only=True)
    made = finetune(
        train=annotations[0], val=annotations[1], images=images, work_dir=tmp_path / 'finetune', **options
    )
    scored = 'model.test_cfg.rcnn.score_thr=0.0'  # after one epoch no score is high
    log, weights = train_with(mmdet, made.config, tmp_path / 'work', 'train_cfg.max_epochs=1', scored)
    assert 'coco/segm_mAP: ' in log and list((tmp_path / 'work').glob('best_coco_segm_mAP_epoch_1.pth'))
    assert all(w.isfinite().all() for w in weights.values()) and 'backbone.stem.conv1.weight' in weights


@pytest.mark.slow  # as mmdet, above
def test_mmseg_trains_the_demo(shapes, tmp_path, monkeypatch):
    """The flat config, as in a work dir: mmseg as installed here does not find the ``mmseg::`` bases of ours.

    mmengine looks for the distribution "mmsegmentation", and resolves bases before ``custom_imports``.
    """
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    Config.fromfile(FPN).dump(tmp_path / 'flat.py')
    length = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2']
    batch_norm = 'model.decode_head.norm_cfg.type=BN'  # the config's SyncBN needs a GPU
    log, weights = train_with(mmseg, tmp_path / 'flat.py', tmp_path / 'work', *length, batch_norm)
    assert 'mIoU: ' in log
    assert all(w.isfinite().all() for w in weights.values()) and 'backbone.stem.conv1.weight' in weights
