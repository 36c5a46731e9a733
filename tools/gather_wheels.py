#!/usr/bin/env python
"""Gather the wheels that a machine with torch, but without a package registry, needs; they take under 60 MB.

Here:   python tools/gather_wheels.py work_dirs/wheels
There:  python -m pip install --no-index --no-deps work_dirs/wheels/*.whl

Packages at requirements.txt's versions, without torch and what comes with it; --published adds the published
code, to compare with (non-commercial license), --python the Python there.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fastervit_cli.console import UsageError, run_cli
from fastervit_cli.options import parse_strictly, verb_parser
from fastervit_cli.package import utils
from fastervit_cli.pins import pinned_versions

#: A machine with a GPU has torch, torchvision, numpy, opencv, scipy, matplotlib, rich, psutil and pytest.
PACKAGES = (
    'onedl-mmengine',
    'timm',
    'safetensors',
    'filelock',
    'pycocotools',
    'faster-coco-eval',
    'supervision',
    'jinja2',
)
#: Needs of mmengine, mmdet, mmseg and mmpretrain, which no line of requirements.txt pins.
UNPINNED = (
    'addict',
    'yapf',
    'platformdirs',
    'termcolor',
    'terminaltables',
    'prettytable',
    'ftfy',
    'wcwidth',
    'shapely',
    'six',
    'defusedxml',
    'pydeprecate',
    'einops',
    'importlib-metadata',
    'zipp',
    'lazy-importer',
    'mat4py',
    'modelindex',
    'ordered-set',
    'model-index',
    'click',
    'markdown',
)
#: Published as source only; here they become wheels without compiled code.
SOURCES = ('onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation', 'onedl-mmpretrain')


def gather(folder: Path, python: str, published: bool) -> int:
    """Download and build the wheels; return their bytes."""
    versions = pinned_versions(utils('places').requirements().read_text(), python)

    def pinned(names: Sequence[str]) -> list[str]:
        return [f'{name}=={versions[name]}' if name in versions else name for name in names]

    wanted = pinned((*PACKAGES, *UNPINNED)) + ['fastervit'] * published
    target = ['--only-binary=:all:', '--implementation=cp', f'--python-version={python}']
    target += [f'--platform=manylinux_2_{n}_x86_64' for n in (28, 27, 17)]
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    _pip([*pip, 'download', '--no-deps', *target, '-d', str(folder), *wanted])
    _pip([*pip, 'wheel', '--no-deps', '-w', str(folder), *pinned(SOURCES)])
    return sum(path.stat().st_size for path in folder.glob('*.whl'))


def _pip(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f'pip failed: {done.stderr.strip().splitlines()[-1][:300]}')


def main() -> None:
    """Parse the command line and gather."""
    parser = verb_parser(__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--python', default='3.12', help='Python of the other machine (default: 3.12)')
    parser.add_argument('--published', action='store_true', help='also the published code')
    args = parse_strictly(parser)
    size = gather(args.folder, args.python, args.published)
    print(f'{len(list(args.folder.glob("*.whl")))} wheels, {size / 1e6:.0f} MB: {args.folder}')


if __name__ == '__main__':
    run_cli(main)
