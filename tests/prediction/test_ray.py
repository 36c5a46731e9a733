"""Actors of Ray give the rows of one process, also when one of them is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('ray')
pytest.importorskip('mmdet')

from tests.helpers import CASCADE, assert_one_line_error
from tests.processes import COMMAND, environment, verb

pytestmark = pytest.mark.long


@pytest.fixture(scope='module')
def photos(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'photos'
    folder.mkdir()
    for i in range(40):
        shutil.copy(next((shapes / 'images/val').iterdir()), folder / f'{i:02}.png')
    return folder


def rows(out):
    content = json.loads((out / 'predictions.json').read_text())
    return content['images'], content['annotations'], content['categories']


def ray_command(detector, photos, *options):
    ours = [sys.executable, COMMAND, 'predict', CASCADE, detector, photos, '--out', 'out', '--no-draw']
    return [*map(str, ours), '--threshold', '0.1', '--engine', 'ray', '--actors', '2', *options]


def test_two_actors_and_a_killed_one(detector, photos, tmp_path):
    alone = ['predict', CASCADE, detector, photos, '--out', 'alone', '--threshold', '0.1', '--no-draw']
    assert verb(*alone, cwd=tmp_path).returncode == 0
    log = (tmp_path / 'log').open('w')
    run = subprocess.Popen(
        ray_command(detector, photos), cwd=tmp_path, env=environment(), stdout=log, stderr=subprocess.STDOUT
    )
    found = tmp_path / 'out'
    while not any(path.stat().st_size for path in found.glob('.journal*')):
        assert run.poll() is None, (tmp_path / 'log').read_text()
        time.sleep(0.05)
    ids = subprocess.run(['pgrep', '-f', 'ray::Worker'], capture_output=True, text=True).stdout.split()
    os.kill(int(ids[0]), signal.SIGKILL)
    assert run.wait(300) == 0, (tmp_path / 'log').read_text()
    text = (tmp_path / 'log').read_text()
    assert 'an actor of Ray died' in text and 'Traceback' not in text
    assert rows(found) == rows(tmp_path / 'alone') and len(rows(found)[0]) == 40


def test_errors_are_one_line(detector, photos, tmp_path):
    def fails(message, *options):
        command = ray_command(detector, photos, *options)
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert_one_line_error(done, message)

    fails('--actors 99', '--actors', '99')
    fails("has no class 'unicorn'", '--classes', 'unicorn')
