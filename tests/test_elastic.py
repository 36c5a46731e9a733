"""Runs that torchrun starts again: killed processes, and the scripts of deploy/."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip('mmdet')

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.processes import _meeting_of_this_start
from fastervit_backbone.engine.runner.workers import _end_with
from fastervit_cli import options
from fastervit_cli.package import options as options_of
from tests.helpers import FEW_REGIONS, ROOT, SHALLOW_CASCADE
from tests.processes import environment

DEPLOY = ROOT / 'deploy'


def commands():
    """Arguments of ``fastervit_cli`` in each file."""
    for path in sorted(DEPLOY.glob('*.sh')):
        text = path.read_text().replace('\\\n', ' ')
        (line,) = re.findall(r'-m fastervit_cli (.*)', text)
        words = shlex.split(re.sub(r'"\$\{@.*?\}"', '--amp', line))
        yield path.name, [word.replace('$', '') for word in words]
    trainer = yaml.safe_load((DEPLOY / 'kubeflow.yaml').read_text())['spec']['trainer']
    assert trainer['command'][-1] == 'fastervit_cli'
    yield 'kubeflow.yaml', trainer['args']


@pytest.mark.parametrize(('name', 'arguments'), list(commands()))
def test_the_commands_are_ours(name, arguments):
    verb, *arguments = arguments
    assert verb == 'train'
    parser, kind = options.verb_parser(None), options_of('TrainOptions')
    options.add_fields(parser, kind)
    options.add_process_arguments(parser)
    values = options.values_of(options.parse_strictly(parser, arguments), kind)
    assert values['resume'] == 'auto' and values['launcher'] == 'pytorch' and values['amp'] is True


@pytest.mark.parametrize('path', sorted(DEPLOY.glob('*.sh')), ids=lambda path: path.name)
def test_the_scripts_are_bash(path):
    subprocess.run(['bash', '-n', path], check=True)


def test_a_worker_ends_after_its_parent():
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        return
    _end_with(os.getppid() + 1)  # another process than the parent, as after its death


@pytest.mark.parametrize(
    'changes',
    [
        dict(TORCHELASTIC_RESTART_COUNT='0'),
        dict(TORCHELASTIC_USE_AGENT_STORE='False'),  # other machines may have other numbers
    ],
)
def test_a_new_store_needs_no_prefix(changes, monkeypatch):
    first = dict(TORCHELASTIC_RESTART_COUNT='1', TORCHELASTIC_USE_AGENT_STORE='True')
    for name, value in (first | changes).items():
        monkeypatch.setenv(name, value)
    assert _meeting_of_this_start() == {}


@pytest.mark.long
def test_a_killed_process_is_started_again(tmp_path):
    """Two processes, one of which is killed between checkpoints, end like two that were left alone."""
    data = make_shapes(tmp_path / 'shapes', train=12, val=3, size=(64, 96))
    settings = ['train_cfg.max_epochs=4', 'train_cfg.val_interval=4', 'train_dataloader.batch_size=2']
    settings += ['train_dataloader.num_workers=1', *(f'{key}={value}' for key, value in FEW_REGIONS.items())]
    bin = Path(sys.executable).parent
    variables = environment(
        SHAPES_ROOT=str(data), NODES='1', GPUS='2', PATH=f'{bin}{os.pathsep}{os.environ["PATH"]}'
    )

    def start(work):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            meeting = f'localhost:{free.getsockname()[1]}'
        command = [DEPLOY / 'torchrun.sh', meeting, SHALLOW_CASCADE, work, '--cfg-options', *settings]
        log = work.with_suffix('.log').open('w')
        return subprocess.Popen(
            command, cwd=tmp_path, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )

    alone, killed = tmp_path / 'alone', tmp_path / 'killed'
    assert start(alone).wait(300) == 0, alone.with_suffix('.log').read_text()
    run = start(killed)
    try:
        while not (killed / 'epoch_1.pth').is_file():
            assert run.poll() is None, killed.with_suffix('.log').read_text()
            time.sleep(0.05)
        os.kill(process_of_rank(1, run.pid), signal.SIGKILL)
        assert run.wait(300) == 0, killed.with_suffix('.log').read_text()
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    text = killed.with_suffix('.log').read_text()
    assert 'resuming from' in text and 'Traceback' not in text
    contents = [torch.load(work / 'epoch_4.pth', weights_only=False) for work in (alone, killed)]
    for name, value in contents[0]['state_dict'].items():
        assert torch.equal(value, contents[1]['state_dict'][name]), name


def process_of_rank(rank, launcher):
    """Return the id of the process that ``launcher`` started with this rank."""
    for path in Path('/proc').glob('[0-9]*'):
        try:
            parent = int((path / 'stat').read_text().rsplit(')', 1)[1].split()[1])
            if parent == launcher and f'RANK={rank}'.encode() in (path / 'environ').read_bytes().split(b'\0'):
                return int(path.name)
        except OSError:
            continue
    raise AssertionError(f'no process of rank {rank}')
