"""Every verb from the wheel, in an empty folder without the checkout; .ci/run runs it, too."""

import os
import re
import subprocess
import sys
import time
import urllib.request
import zipfile

import pytest

from fastervit_cli import VERBS
from tests.helpers import ROOT

pytestmark = pytest.mark.slow
pytest.importorskip('mmdet')
pytest.importorskip('onnxruntime')

SHORT = ['--cfg-options', 'train_cfg.max_epochs=1']
SHORT += [
    f'{s}_dataloader.{k}' for s in ('train', 'val') for k in ('num_workers=0', 'persistent_workers=False')
]
DATA = 'demo/data'
JSON = f'{DATA}/annotations/instances_{{}}.json'
#: Verb, its arguments, and what it prints or writes.
STEPS = [
    ('doctor', [], 'training can run'),
    ('config', ['cascade_shapes'], r'\.mim/configs/fastervit/demo/cascade_shapes\.py'),
    ('demo', ['--out', 'demo', '--images', '16'], 'box AP'),
    ('make-shapes', ['shapes', '--train', '8', '--val', '4', '--size', '96', '128'], ''),
    (
        'check-data',
        [
            '--train',
            JSON.format('train'),
            '--val',
            JSON.format('val'),
            '--images',
            f'{DATA}/images/train',
            f'{DATA}/images/val',
        ],
        '',
    ),
    ('convert-data', ['coco', JSON.format('val'), '--out', 'labels'], ''),
    (
        'finetune',
        [
            'shapes/annotations',
            '--images',
            'shapes/images/train',
            'shapes/images/val',
            '--arch',
            'nano',
            '--epochs',
            '1',
            '--batch',
            '2',
            '--work-dir',
            'own',
        ],
        'predict: fastervit predict own/finetune.py',
    ),
    ('train', ['cascade_shapes', '--work-dir', 'run', *SHORT], ''),
    ('test', ['cascade_shapes', 'run'], 'box AP|no detections'),
    (
        'predict',
        ['cascade_shapes', 'demo/cascade', f'{DATA}/images/val', '--threshold', '0', '--out', 'predictions'],
        'written: predictions/predictions.json',
    ),
    (
        'analyze-results',
        ['predictions', JSON.format('val'), '--images', f'{DATA}/images/val', '--out', 'analysis'],
        '',
    ),
    ('plot-logs', ['run', '--out', 'curves.png'], 'curves.png'),
    (
        'visualize-attention',
        ['cascade_shapes', 'demo/cascade', f'{DATA}/images/val/000001.png', '--out', 'attention'],
        'written: attention/',
    ),
    ('export', ['cascade_shapes', 'run', '--size', '96x128', '--out', 'exported'], 'written: exported/'),
    (
        'predict',
        ['exported/cascade_shapes_96x128.onnx', f'{DATA}/images/val', '--no-draw', '--out', 'from_file'],
        'written: from_file',
    ),
    ('publish', ['run', 'model'], 'written: model; use it: fastervit predict model'),
    ('predict', ['model', f'{DATA}/images/val', '--no-draw', '--out', 'from_folder'], 'written: from_folder'),
    ('benchmark', ['fastervit:nano', '--size', '64x96', '--rounds', '2'], 'nano'),
    ('convert-checkpoint', ['--help'], 'usage: fastervit convert-checkpoint'),
    ('ablate', ['--help'], 'usage: fastervit ablate'),
    ('prepare-data', ['--help'], 'usage: fastervit prepare-data'),
]


def test_every_verb(tmp_path):
    assert {verb for verb, *_ in STEPS} | {'app'} == set(VERBS)
    wheels, site, cwd = (tmp_path / name for name in ('wheels', 'site', 'empty'))
    source = tmp_path / 'source'
    clone = ['git', 'clone', '-q', '--depth', '1', f'file://{ROOT}', str(source)]
    if subprocess.run(clone).returncode:
        pytest.skip('not a git checkout')
    build = [
        sys.executable,
        '-m',
        'pip',
        'wheel',
        '-q',
        '--no-deps',
        '--no-build-isolation',
        '-w',
        wheels,
        source,
    ]
    subprocess.run(build, check=True)
    zipfile.ZipFile(*wheels.glob('*.whl')).extractall(site)
    cwd.mkdir()
    inherited = {k: v for k, v in os.environ.items() if not k.endswith('_ROOT')}
    environment = inherited | dict(PYTHONPATH=str(site), OMP_NUM_THREADS='1', SHAPES_ROOT='demo/data')

    def command(*arguments):
        return [sys.executable, '-m', 'fastervit_backbone', *map(str, arguments)]

    for verb, arguments, expected in STEPS:
        options = dict(cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)
        start = time.monotonic()
        done = subprocess.run(command(verb, *arguments), **options)
        print(f'{verb}: {time.monotonic() - start:.0f} s', flush=True)
        output = done.stdout + done.stderr
        assert done.returncode == 0, f'{verb}: {output[-3000:]}'
        assert re.search(expected, output), f'{verb}: {output[-3000:]}'
        assert str(ROOT) not in output.replace(str(sys.prefix), ''), (
            f'{verb} names the checkout: {output[-3000:]}'
        )
        assert 'python tools/' not in output and '{INSTALL}' not in output, verb
    app = subprocess.Popen(command('app', 'model', '--port', '7987'), cwd=cwd, env=environment)
    try:
        for _ in range(120):
            time.sleep(1)
            try:
                assert urllib.request.urlopen('http://127.0.0.1:7987').status == 200
                break
            except OSError:
                assert app.poll() is None
        else:
            raise AssertionError('the page does not answer')
    finally:
        app.kill()
        app.wait()
