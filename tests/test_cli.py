"""The ``fastervit`` command: every tool is a verb, help needs no torch, and a wheel has all it needs."""

import ast
import os
import re
import subprocess
import sys
import zipfile

import pytest
import torch

from fastervit_cli import VERBS
from fastervit_cli.console import UsageError
from fastervit_cli.options import add_run_arguments, parse_strictly, verb_parser
from fastervit_cli.verbs import doctor
from tests.helpers import ROOT
from tests.processes import verb


def command(*arguments, cwd, **variables):
    environment = os.environ | dict(PYTHONPATH=str(ROOT)) | variables
    line = [sys.executable, '-m', 'fastervit_cli', *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_every_file_is_a_verb():
    files = (ROOT / 'fastervit_cli' / 'verbs').glob('*.py')
    assert {path.stem.replace('_', '-') for path in files} == {*VERBS, '--init--'}


def test_scripts_of_the_design_card(tmp_path):
    for name in ('train', 'test', 'doctor'):
        line = [sys.executable, str(ROOT / 'tools' / f'{name}.py'), '--help']
        environment = os.environ | dict(PYTHONPATH=str(ROOT))
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith(f'usage: fastervit {name} '), done.stderr


@pytest.mark.parametrize('verb', [v for v in VERBS if v != 'doctor'])
def test_help_imports_no_torch(verb, tmp_path):
    (tmp_path / 'torch.py').write_text("raise SystemExit('torch was imported')")
    done = command(verb, '--help', cwd=tmp_path, PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}')
    assert done.returncode == 0 and done.stdout.startswith(f'usage: fastervit {verb} '), done.stderr
    assert 'python tools/' not in done.stdout


BORROWED = ['utils/__init__.py', 'utils/places.py', 'utils/suggest.py']
BORROWED += [f'options/{path.name}' for path in (ROOT / 'fastervit_backbone' / 'options').glob('*.py')]


@pytest.mark.parametrize('name', BORROWED)
def test_what_the_command_borrows_is_standard_library(name):
    tree = ast.parse((ROOT / 'fastervit_backbone' / name).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    assert {module.partition('.')[0] for module in modules} <= sys.stdlib_module_names
    assert all(getattr(node, 'level', 0) <= 1 for node in nodes)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['trian'], "unknown verb 'trian' (did you mean 'train'?)"),
        (['x'], "unknown verb 'x': fastervit --help lists them"),
        (['check-data', '--imges', 'x'], "unknown option --imges (did you mean '--images'?)"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == f'error: {message}\n'


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [({}, '1000'), (dict(GOMP_SPINCOUNT='7'), '7'), (dict(OMP_WAIT_POLICY='ACTIVE'), 'None')],
)
def test_openmp_threads_spin_shortly(variables, expected):
    inherited = {k: v for k, v in os.environ.items() if k not in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')}
    code = "import os, sys, fastervit_cli; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, '-c', code], env=inherited | variables, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == [expected, 'False']


def test_threads(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    parser = verb_parser('x')
    add_run_arguments(parser)
    assert parse_strictly(parser, []).threads is None and os.environ['OMP_NUM_THREADS'] == '5'
    before = torch.get_num_threads()  # torch is imported before, as by python -m fastervit_backbone
    assert parse_strictly(parser, ['--threads', '2']).threads == 2 and os.environ['OMP_NUM_THREADS'] == '2'
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    with pytest.raises(UsageError, match='--threads 0: must be at least 1'):
        parse_strictly(parser, ['--threads', '0'])


def test_configs_by_name(tmp_path):
    pytest.importorskip('mmdet')
    names = command('config', cwd=tmp_path).stdout.split()
    assert {'cascade_fastervit0_3x', 'demo/cascade_shapes', 'baselines/cascade_swin-t_3x'} <= set(names)
    from fastervit_backbone.engine.config.load import find_config
    from fastervit_backbone.utils.errors import UserError

    found = verb('config', 'cascade_shapes', cwd=tmp_path).stdout.strip()
    assert found == str(ROOT / 'configs' / 'demo' / 'cascade_shapes.py')
    for name in ('demo/cascade_shapes', 'cascade_shapes', 'cascade_shapes.py'):
        assert find_config(name) == ROOT / 'configs' / 'demo' / 'cascade_shapes.py'
    assert "arch='0'" in verb('config', 'cascade_fastervit0_3x', '--flat', cwd=tmp_path).stdout
    diff = verb('config', 'cascade_fastervit0_3x', '--diff', 'cascade_fastervit4_3x', cwd=tmp_path).stdout
    assert "-        arch='0'," in diff and "+        arch='4'," in diff and 'optim_wrapper' not in diff
    with pytest.raises(UserError, match="did you mean 'cascade_fastervit"):
        find_config('cascade_fastervit9_3x')


def test_hints_name_the_verb(tmp_path):
    pytest.importorskip('mmdet')
    done = verb('train', 'cascade_shapes', cwd=tmp_path, SHAPES_ROOT=str(tmp_path / 'absent'))
    assert done.returncode == 2 and 'make it: fastervit make-shapes work_dirs/demo/data' in done.stderr


@pytest.mark.long
def test_without_the_extra(tmp_path):
    (tmp_path / 'mmengine.py').write_text("raise ModuleNotFoundError('No module', name='mmengine')")
    path = f'{tmp_path}{os.pathsep}{ROOT}'
    done = command('train', 'x', cwd=tmp_path, PYTHONPATH=path)
    message = "error: this needs the package mmengine: pip install 'fastervit-backbone[mm]' "
    message += '(in a checkout: make setup)'
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == message


LIBRARY = 'libGL.so.1: cannot open shared object file: No such file or directory'


@pytest.mark.long
def test_an_opencv_that_needs_a_library_of_the_system(tmp_path):
    pytest.importorskip('mmdet')
    (tmp_path / 'cv2.py').write_text(f"raise ImportError({LIBRARY!r}, name='cv2')")
    path = f'{tmp_path}{os.pathsep}{ROOT}'
    done = command('train', 'cascade_shapes', cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: OpenCV needs libGL.so.1, which this system lacks: ')
    assert last.endswith('-m pip install --no-deps opencv-python-headless')
    done = command('doctor', cwd=tmp_path, PYTHONPATH=path)
    problems = re.findall(r'^problem: (.*)\n    fix: (.*)$', done.stdout, re.MULTILINE)
    assert done.returncode == 1 and len(problems) == 1, done.stdout
    assert problems[0][0] == 'OpenCV needs libGL.so.1, which this system lacks'
    assert re.search(r'--no-deps opencv-python-headless==[\d.]+$', problems[0][1])


def test_other_import_errors_keep_their_traceback(tmp_path):
    for text in (
        "'libcudnn.so.9: cannot open shared object file', name='torch'",
        "'cannot import', name='mmcv'",
    ):
        (tmp_path / 'mmengine.py').write_text(f'raise ImportError({text})')
        done = command('train', 'x', cwd=tmp_path, PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}')
        assert done.returncode == 1 and 'Traceback' in done.stderr and 'OpenCV' not in done.stderr


@pytest.mark.parametrize(
    ('module', 'reason', 'expected'),
    [
        ('mmdet', "No module named 'mmcv'", '--no-deps onedl-mmcv=='),
        ('mmdet', "No module named 'skimage.draw'", 'scikit-image'),
        ('mmdet', "No module named 'terminaltables'", 'install terminaltables'),
        ('mmseg', 'libXext.so.6: cannot open shared object file', 'install libXext.so.6 with the system'),
        ('mmcv', 'AttributeError: x', 'again'),
    ],
)
def test_remedies_name_what_is_missing(module, reason, expected):
    problem, fix = doctor.remedy(module, reason, 'again')
    assert problem.startswith(module) and expected in fix
    assert doctor.remedy(module, LIBRARY, 'again') is None  # reported with OpenCV


@pytest.mark.long
def test_torchvision_of_another_torch(tmp_path):
    pytest.importorskip('mmdet')
    (tmp_path / 'torchvision.py').write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    path = f'{tmp_path}{os.pathsep}{ROOT}'
    done = command('train', 'cascade_shapes', cwd=tmp_path, PYTHONPATH=path)
    message = 'error: torchvision was built for another torch: fastervit doctor has the fix'
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == message
    done = command('doctor', cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    assert re.search(r'-m pip install --upgrade torch==[\d.]+ torchvision', done.stdout)


def test_a_closed_pipe_is_no_error(tmp_path):
    line = f'{sys.executable} -m fastervit_cli config | head -1'
    environment = os.environ | dict(PYTHONPATH=str(ROOT))
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == 'atss_fastervit0_1x' and done.stderr == ''


def test_the_wheel(tmp_path):
    """Configs, tools, templates and the command; built as pip builds it, from a copy."""
    pytest.importorskip('wheel')
    names = ['fastervit_backbone', 'fastervit_cli', 'configs', 'tools', 'pyproject.toml', 'setup.py']
    names += ['README.md', 'LICENSE', 'NOTICE', 'requirements.txt', 'model-index.yml']
    source = tmp_path / 'source'
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    files = listed.stdout.split()
    if not files:
        pytest.skip('not a git checkout')
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = [
        sys.executable,
        '-m',
        'pip',
        'wheel',
        '-q',
        '--no-deps',
        '--no-build-isolation',
        '-w',
        tmp_path,
        source,
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob('*.whl')
    inside = set(zipfile.ZipFile(wheel).namelist())
    mim = 'fastervit_backbone/.mim'
    moved = {n.replace('configs/', 'configs/fastervit/', 1) for n in files if n.startswith('configs/')}
    moved |= {n for n in files if n.startswith('tools/')} | {'requirements.txt', 'model-index.yml'}
    assert {f'{mim}/{n}' for n in moved} <= inside
    package = {'templates/report.html.j2', 'weights/nano.safetensors', 'weights/README.md'}
    assert {'fastervit_cli/console.py', *(f'fastervit_backbone/{name}' for name in package)} <= inside
    site = tmp_path / 'site'
    zipfile.ZipFile(wheel).extractall(site)
    done = command('config', 'fpn_shapes', cwd=tmp_path, PYTHONPATH=str(site))
    shown = site / mim / 'configs' / 'fastervit' / 'demo' / 'fpn_shapes.py'
    assert done.stdout.strip() == str(shown), done.stderr
