#!/usr/bin/env python
"""Say what is installed, what is wrong with it, and the one command that mends each problem. Exit code 0: training can run.

Standard library only, so that it answers in a broken environment too.
"""

import argparse
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

FORK = {
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
}
UPSTREAM = {
    'mmengine': ('mmengine', 'mmengine-lite'),
    'mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmdet': ('mmdet',),
    'mmseg': ('mmsegmentation',),
}
PINS = {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2',
}
#: Without these detectors train all the same: segmentation configs and .safetensors files are what is missed.
OPTIONAL = ('mmseg ', 'safetensors ')
ROOT = Path(__file__).resolve().parent.parent
PIP = f'{sys.executable} -m pip install'
BUILD_MMCV = (
    f'{PIP} --no-build-isolation --force-reinstall --no-deps --no-cache-dir onedl-mmcv=={PINS["onedl-mmcv"]}'
)


def installed() -> dict[str, str]:
    """Distribution name -> version."""
    return {
        d.metadata['Name'].lower().replace('_', '-'): d.version for d in distributions() if d.metadata['Name']
    }


def try_import(name: str) -> tuple[object, str]:
    """The module and '', or None and why not."""
    try:
        return importlib.import_module(name), ''
    except Exception as error:  # a broken package can raise anything; that is what is asked here
        return None, f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'


def examine() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Rows (what, state) and problems (what is wrong, command)."""
    rows = [('python', f'{platform.python_version()} at {sys.executable}')]
    problems: list[tuple[str, str]] = []
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        problems.append(
            (
                f'Python {platform.python_version()} is outside 3.10 to 3.13',
                'rm -rf .venv && make setup BOOTSTRAP=python3.11',
            )
        )
    packages = installed()

    torch, why = try_import('torch')
    if torch is None:
        problems.append((f'torch does not import ({why})', f'{PIP} torch==2.11.0 torchvision==0.26.0'))
        rows.append(('torch', 'missing'))
    else:
        cuda = (
            torch.cuda.get_device_name(0)
            if torch.cuda.is_available()
            else 'no device in use: runs on the CPU'
        )
        rows.append(('torch', f'{torch.__version__}, built for CUDA {torch.version.cuda or "none"}, {cuda}'))

    both = [
        module for module in FORK if FORK[module] in packages and any(n in packages for n in UPSTREAM[module])
    ]
    if both:
        upstream = [n for module in both for n in UPSTREAM[module] if n in packages]
        forks = ' '.join(f'{FORK[m]}=={PINS[FORK[m]]}' for m in both)
        remove = ' '.join(upstream + [FORK[m] for m in both])
        problems.append(
            (
                f'both families of {", ".join(both)} are installed; they share import names and overwrite each other',
                f'{sys.executable} -m pip uninstall -y {remove} && {PIP} --no-build-isolation {forks}',
            )
        )
    for module, fork in FORK.items():
        name = next((n for n in (fork, *UPSTREAM[module]) if n in packages), None)
        loaded, why = try_import(module) if torch is not None else (None, 'torch first')
        label = module if name is None else f'{module} ({name})'
        rows.append(
            (
                label,
                getattr(loaded, '__version__', None)
                or (f'{packages[name]}, does not import: {why}' if name else 'missing'),
            )
        )
        if loaded is None and torch is not None:
            command = f'{PIP} --no-build-isolation {fork}=={PINS[fork]}'
            problems.append(
                (f'{module} {"does not import (" + why + ")" if name else "is missing"}', command)
            )
    if torch is not None and try_import('mmcv')[0] is not None:
        ops, why = compiled_operators(torch)
        rows.append(('mmcv operators', ops))
        if why:
            problems.append((why, BUILD_MMCV))

    for name in ('numpy', 'pycocotools', 'safetensors'):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, 'missing'))
            problems.append((f'{name} is missing', f'{PIP} {name}'))
    package, why = try_import('fastervit_backbone')
    rows.append(('fastervit_backbone', getattr(package, '__version__', f'does not import: {why}')))
    if package is None and torch is not None:
        problems.append(
            (f'fastervit_backbone does not import ({why})', f'{PIP} --no-build-isolation --no-deps -e {ROOT}')
        )
    return rows, problems


def compiled_operators(torch: object) -> tuple[str, str]:
    """State of mmcv's compiled operators, and what is wrong or ''."""
    extension, why = try_import('mmcv._ext')
    if extension is None:
        return f'not compiled ({why})', 'mmcv has no compiled operators (mmcv._ext)'
    ops, _ = try_import('mmcv.ops')
    on = [('CPU', 'cpu'), ('CUDA', 'cuda')] if torch.cuda.is_available() else [('CPU', 'cpu')]
    good = []
    for label, device in on:
        try:
            boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.1]], device=device)
            if len(ops.nms(boxes, torch.tensor([0.9, 0.8], device=device), 0.5)[1]) == 1:
                good.append(label)
        except Exception as error:  # whatever it raises, it does not work
            return (
                f'compiled for {"+".join(good) or "nothing"}',
                f'mmcv operators fail on {label} ({str(error).splitlines()[0]})',
            )
    return f'compiled, working on {"+".join(good)}', ''


def main() -> None:
    """Print and exit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--quiet', action='store_true', help='problems only')
    args = parser.parse_args()
    rows, problems = examine()
    if not args.quiet:
        width = max(len(name) for name, _ in rows)
        print('\n'.join(f'{name:{width}}  {state}' for name, state in rows))
    for problem, command in problems:
        print(f'problem: {problem}\n   mend: {command}')
    problems = [p for p in problems if not p[0].startswith(OPTIONAL)]
    if not args.quiet or problems:
        print('training can run' if not problems else f'training cannot run: {len(problems)} problem(s)')
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
