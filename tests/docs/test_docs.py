"""Run the commands of the pages on predicting, analyzing and fine-tuning: small data, untrained weights."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('supervision')

from fastervit_backbone.datasets.shapes import make_shapes
from tests.helpers import CASCADE, QUICK, ROOT, UPERNET, make_video
from tests.mm_helpers import save_untrained
from tests.processes import environment, verb

PAGES = ('quickstart', 'predict', 'analyse', 'finetune')
QUICK_PAGES = ('quickstart', 'finetune')


def blocks(page, language):
    return re.findall(rf'```{language}\n(.*?)```', (ROOT / 'docs' / f'{page}.md').read_text(), re.DOTALL)


def commands(page):
    """Return the shell commands of a page; a backslash continues a line."""
    text = '\n'.join(blocks(page, 'bash'))
    return [line for line in re.sub(r'\s*\\\n\s*', ' ', text).splitlines() if line]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """The folder in which the pages' commands are run, in the state after the quickstart."""
    folder = tmp_path_factory.mktemp('clone')
    for name in ('tools', 'configs', 'docs'):
        (folder / name).symlink_to(ROOT / name)
    demo = folder / 'work_dirs' / 'demo'
    make_shapes(demo / 'data', train=4, val=2, size=(64, 96))
    for head, config in (('cascade', CASCADE), ('upernet', UPERNET)):
        (demo / head).mkdir(parents=True)
        save_untrained(config, demo / head / 'epoch_3.pth')
        (demo / head / 'last_checkpoint').write_text('epoch_3.pth')
        log = demo / head / '20260101_000000' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        shutil.copyfile(ROOT / 'docs' / 'logs' / f'{head}_shapes.json', log)
    photos = folder / 'photos'
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (('a.jpg', (60, 80)), ('b.png', (96, 64)), ('large.jpg', (300, 500))):
        small = rng.integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)).save(photos / name)
    make_video(folder / 'clip.mp4', frames=3)
    return folder


def start(command, cwd):
    variables = dict(SHAPES_ROOT=str(cwd / 'work_dirs' / 'demo' / 'data'), BROWSER=shutil.which('true'))
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    return subprocess.Popen(command, shell=True, cwd=cwd, env=environment(PATH=path, **variables), **options)


def run(command, cwd):
    """Run a command to its end and return its output; a verb in a fork, which is faster."""
    words = shlex.split(command)
    if words[0] == 'fastervit':
        variables = dict(SHAPES_ROOT=str(cwd / 'work_dirs' / 'demo' / 'data'))
        done = verb(words[1], *words[2:], cwd=cwd, **variables)
        assert done.returncode == 0, f'{command}\n{done.stdout}{done.stderr}'
        return done.stdout
    process = start(command, cwd)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, f'{command}\n{output}'
    return output


def run_app(command, cwd):
    """Run a command that serves a web page until it prints its address."""
    command = command.replace('fastervit', f'{sys.executable} -m fastervit_cli', 1)
    pytest.importorskip('gradio')
    process = start(command, cwd)
    deadline, output = time.monotonic() + 100, ''
    while 'Running on' not in output and process.poll() is None and time.monotonic() < deadline:
        output += process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 'Running on local URL' in output, output


def shorten(command, page):
    """Return the command with fewer and smaller images and fewer training steps."""
    command = command.replace('--train 200 --val 40', '--train 6 --val 3 --size 64 96')
    command = command.replace('--val 20', '--val 4 --size 64 96')
    if 'fastervit finetune' in command:
        command += ' --epochs 2 --batch 2'
    if 'fastervit train' in command and page == 'finetune':
        command += ' train_cfg.max_epochs=1'
    elif 'fastervit train' in command:
        options = ' '.join(f"'{o}'" for o in QUICK)
        command += f' --cfg-options {options} train_cfg.max_epochs=1 train_dataloader.batch_size=2'
        command = command.replace('work_dirs/demo/cascade', 'work_dirs/demo/trained')
    if 'fastervit test' in command:
        command = command.replace(' work_dirs/demo/cascade ', ' work_dirs/demo/trained ')
        command += ' --cfg-options ' + ' '.join(QUICK)
    return command


def check_predict(place):
    pictures = {p.name for p in (place / 'predictions' / 'pictures').iterdir()}
    assert pictures == {'a.jpg', 'b.jpg', 'large.jpg'}
    images = json.loads((place / 'predictions_2' / 'predictions.json').read_text())['images']
    assert len([i for i in images if 'frame' in i]) == 3
    assert (place / 'predictions_2' / 'pictures' / 'clip.mp4').is_file()
    assert (place / 'labels' / 'colors' / 'large.png').is_file()
    assert (place / 'large' / 'predictions.json').is_file()


def check_finetune(place):
    assert len(json.loads((place / 'my_predictions' / 'predictions.json').read_text())['images']) == 3
    assert (place / 'my_test_analysis' / 'report.html').stat().st_size > 10**4
    figures = json.loads((place / 'my_test_analysis' / 'figures.json').read_text())
    # of the json given by --annotations, whose images the config does not know
    assert sum(c['objects'] for c in figures['classes']) > 4
    assert (place / 'my_labels' / 'best.pth').is_file()
    assert list((place / 'my_second_run').glob('epoch_1.pth'))


def check_analyse(place):
    for name in ('analysis', 'analysis_masks', 'analysis_labels'):
        assert (place / name / 'report.html').stat().st_size > 10**4
    assert len(list((place / 'attention').glob('*.png'))) == 2 and (place / 'curves.png').is_file()


CHECKS = dict(predict=check_predict, finetune=check_finetune, analyse=check_analyse)


@pytest.mark.short('quickstart')
@pytest.mark.parametrize(
    'page', [page if page in QUICK_PAGES else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
)
def test_commands(page, place):
    listed = commands(page)
    assert len(listed) >= 5
    assert all(c.startswith(('fastervit ', 'python -m webbrowser ')) for c in listed)
    for command in listed:
        if 'fastervit make-shapes' in command and page == 'quickstart':
            continue  # the fixture has made fewer images
        if 'fastervit app' in command:
            run_app(command, place)
        else:
            run(shorten(command, page), place)
    if page in CHECKS:
        CHECKS[page](place)


@pytest.mark.slow
def test_python_of_the_predict_page(place):
    code = next(b for b in blocks('predict', 'python') if 'Predictor(' in b)
    code = code.replace('threshold=0.5', 'threshold=0.1')
    run(f'python - <<"END"\n{code}END\n', place)
    assert Image.open(place / 'b_drawn.png').size == (427, 640)


@pytest.mark.slow
def test_python_of_the_finetune_page(place):
    make_shapes(place / 'my_data', train=6, val=3, size=(64, 96))
    code = blocks('finetune', 'python')[0].replace("preset='quick'", 'epochs=2, batch=2')
    output = run(f'python - <<"END"\n{code}END\n', place)
    assert 'my_python_run/best.pth' in output.splitlines()[-1], output


def test_config_with_loggers(place):
    from mmengine.config import Config

    code = next(b for b in blocks('analyse', 'python') if '_base_' in b)
    code = code.replace('/path/to/fastervit_backbone', str(ROOT))
    for logger, backend in (
        ('log_to_tensorboard', 'TensorboardVisBackend'),
        ('log_to_wandb', 'WandbVisBackend'),
    ):
        (place / f'{logger}.py').write_text(code.replace('_base_.log_to_tensorboard', f'_base_.{logger}'))
        config = Config.fromfile(place / f'{logger}.py')
        assert [b['type'] for b in config.visualizer.vis_backends] == ['LocalVisBackend', backend]
        assert config.visualizer.type == 'DetLocalVisualizer'
