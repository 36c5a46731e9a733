"""Checkpoints are read as data only: code in a pickle is refused everywhere except with --trust-pickle."""

import pickle
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('supervision')

from fastervit_backbone.checkpoints.io import CheckpointError, read_checkpoint, write_state_dict
from fastervit_backbone.checkpoints.safe_loading import safe_loading
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.finetune import finetune
from fastervit_backbone.inference import Predictor
from fastervit_backbone.train import train
from fastervit_backbone.utils.trust import trusting_pickles
from tests.helpers import CASCADE, QUICK, assert_one_line_error
from tests.mm_helpers import save_untrained
from tests.processes import verb

LOADERS = {
    f'{s}_dataloader.{k}': v
    for s in ('train', 'val', 'test')
    for k, v in (('num_workers', 0), ('persistent_workers', False))
}


class Trap:
    """Create a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=4, val=2, size=(64, 96))


@pytest.fixture
def trap(tmp_path, shapes, monkeypatch):
    """Return a valid checkpoint with code in it, and the file whose existence shows that the code ran."""
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    path, sprung = tmp_path / 'trap.pth', tmp_path / 'sprung'
    save_untrained(CASCADE, path)
    content = torch.load(path, weights_only=False)
    torch.save(content | dict(optimizer={}, notes=Trap(sprung)), path)
    return path, sprung


def test_refused_everywhere(trap, shapes, tmp_path):
    path, sprung = trap
    jsons = [shapes / 'annotations' / f'instances_{split}.json' for split in ('train', 'val')]
    images = [shapes / 'images' / split for split in ('train', 'val')]
    readers = {
        'train': lambda: train(CASCADE, work_dir=tmp_path / 'w', options=LOADERS | {'load_from': str(path)}),
        'resume': lambda: train(CASCADE, work_dir=tmp_path / 'w', resume=path, options=LOADERS),
        'weights of the backbone': lambda: train(
            CASCADE,
            work_dir=tmp_path / 'w',
            options=LOADERS | {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=str(path))},
        ),
        'test': lambda: evaluate(CASCADE, path, work_dir=tmp_path / 'w', options=LOADERS),
        'predict': lambda: Predictor(CASCADE, path),
        'finetune': lambda: finetune(
            train=jsons[0], val=jsons[1], images=images, arch='nano', start=path, work_dir=tmp_path / 'w'
        ),
    }
    for name, read in readers.items():
        with pytest.raises(
            CheckpointError,
            match=r'refused to read .*trap\.pth: the pickle would run .*Path.*--trust-pickle',
        ):
            read()
        assert not sprung.exists(), name
    with pytest.raises(pickle.UnpicklingError), safe_loading():  # other libraries' own weights_only=False
        torch.load(path, weights_only=False)
    assert not sprung.exists()


def test_trust_pickle_of_the_tools(trap, shapes, tmp_path):
    path, sprung = trap
    for name, arguments in (
        ('test', [CASCADE, path]),
        ('predict', [CASCADE, path, shapes / 'images' / 'val', '--out', 'p']),
        ('convert-checkpoint', [path, 'c.pth']),
    ):
        assert_one_line_error(
            verb(name, *arguments, cwd=tmp_path, SHAPES_ROOT=str(shapes)), 'refused to read .*trap.pth'
        )
    assert not sprung.exists()
    done = verb('convert-checkpoint', path, 'c.pth', '--trust-pickle', cwd=tmp_path)
    assert done.returncode == 0 and sprung.exists(), done.stderr


def test_trust_ends(trap):
    path, sprung = trap
    with trusting_pickles():
        read_checkpoint(path)
    assert sprung.exists()
    sprung.unlink()
    with trusting_pickles(False), pytest.raises(CheckpointError):
        read_checkpoint(path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not sprung.exists()


def test_safetensors_are_read_like_pickles(trap, shapes, tmp_path):
    with trusting_pickles():
        weights = read_checkpoint(trap[0])['state_dict']
    path = tmp_path / 'whole.safetensors'
    write_state_dict(weights, path, {})
    done = verb(
        'test',
        CASCADE,
        path,
        '--out',
        'm.json',
        '--cfg-options',
        *QUICK,
        cwd=tmp_path,
        SHAPES_ROOT=str(shapes),
    )
    assert done.returncode == 0, done.stderr
    model = train(
        CASCADE,
        work_dir=tmp_path / 'w',
        options=LOADERS | {'load_from': str(path), 'optim_wrapper.optimizer.lr': 0.0},
    )
    assert all(
        torch.equal(v, weights[k])
        for k, v in model.state_dict().items()
        if 'running' not in k and 'num_batches' not in k
    )
