"""Ray Train's TorchTrainer around the training: a worker killed, one told to go, equal to torchrun's run."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

pytest.importorskip('ray.train', exc_type=ImportError)
pytest.importorskip('mmdet')

from mmengine.runner import Runner

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.hooks.save_on_signal import SaveOnSignalHook
from fastervit_backbone.ray_train import ray_trainer
from fastervit_backbone.utils.errors import Interrupted, UserError
from tests.helpers import FEW_REGIONS, SHALLOW_CASCADE
from tests.processes import COMMAND, environment

DRIVER = """
import json, sys
from fastervit_backbone.ray_train import ray_trainer

config, work_dir, options = sys.argv[1:]
ray_trainer(config, workers=2, work_dir=work_dir, restarts=2, options=json.loads(options)).fit()
"""


@pytest.mark.long
def test_workers_that_die_are_started_again(tmp_path):
    data = make_shapes(tmp_path / 'shapes', train=12, val=3, size=(64, 96))
    options = {'train_cfg.max_epochs': 5, 'train_cfg.val_interval': 5, 'train_dataloader.batch_size': 2}
    options |= {
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'randomness.seed': 0,
        **FEW_REGIONS,
    }
    variables = environment(SHAPES_ROOT=str(data), RAY_TRAIN_HEALTH_CHECK_INTERVAL_S='1')
    alone = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', COMMAND]
    alone += ['train', SHALLOW_CASCADE, '--work-dir', tmp_path / 'alone', '--launcher', 'pytorch']
    alone += ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    done = subprocess.run(list(map(str, alone)), cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    work, log = tmp_path / 'ray', (tmp_path / 'log').open('w')
    driver = [sys.executable, '-c', DRIVER, SHALLOW_CASCADE, work, json.dumps(options)]
    run = subprocess.Popen(
        list(map(str, driver)), cwd=tmp_path, env=variables, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        for epoch, number in ((1, signal.SIGKILL), (2, signal.SIGTERM)):
            while not (work / f'epoch_{epoch}.pth').is_file():
                assert run.poll() is None, (tmp_path / 'log').read_text()
                time.sleep(0.05)
            ids = re.findall(r'pid=(\d+)\) world_rank=1', (tmp_path / 'log').read_text())
            os.kill(int(ids[-1]), number)
            if number == signal.SIGTERM:
                while not (work / 'interrupted.pth').is_file():
                    assert run.poll() is None, (tmp_path / 'log').read_text()
                    time.sleep(0.02)
        assert run.wait(400) == 0, (tmp_path / 'log').read_text()
    finally:
        if run.poll() is None:
            run.kill()
    contents = [torch.load(f / 'epoch_5.pth', weights_only=False) for f in (tmp_path / 'alone', work)]
    for name, value in contents[0]['state_dict'].items():
        assert torch.equal(value, contents[1]['state_dict'][name]), name
    assert not (work / 'interrupted.pth').exists()


def test_what_a_trainer_needs(tmp_path):
    with pytest.raises(UserError, match='work_dir is required'):
        ray_trainer(SHALLOW_CASCADE, workers=2)
    with pytest.raises(UserError, match='workers=0: must be at least 1'):
        ray_trainer(SHALLOW_CASCADE, workers=0, work_dir=tmp_path)
    with pytest.raises(UserError, match=r'resume=a\.pth: a restarted run resumes from its work dir'):
        ray_trainer(SHALLOW_CASCADE, workers=2, work_dir=tmp_path, resume='a.pth')
    with pytest.raises(TypeError, match='no_option'):
        ray_trainer(SHALLOW_CASCADE, workers=2, work_dir=tmp_path, no_option=1)


def test_sigterm_in_a_thread(tmp_path):
    """The checkpoint is written, then the signal is sent again to the handler of the process."""
    arrived: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: arrived.append(number))

    class OneStep(Runner):
        def __init__(self):
            self.saved = []

        rank, work_dir, model, epoch, iter = 0, str(tmp_path), torch.nn.Linear(1, 1), 0, 6
        optim_wrapper = None

        def save_checkpoint(self, folder, name, **more):
            self.saved.append(name)
            (tmp_path / name).touch()

    runner, errors = OneStep(), []

    def work():
        hook = SaveOnSignalHook()
        hook.before_train(runner)
        try:
            hook.after_train_iter(runner, 0)
            assert not runner.saved
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):  # until it has arrived
                hook.after_train_iter(runner, 1)
                time.sleep(0.01)
        except Interrupted as error:
            errors.append(str(error))
            assert not arrived
        finally:
            hook.restore()

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert runner.saved == ['interrupted.pth'] and arrived == [signal.SIGTERM]
    assert errors and errors[0].startswith('SIGTERM at iteration 7: saved')
