#!/usr/bin/env python3
"""Resolve every pin of requirements.txt for each Python and platform; print docs/install.md's table.

Nothing is installed. Needs uv (`pip install uv`), which reads markers for the machine that is asked about;
pip's `--dry-run --platform` reads them for its own. Wheels only, but for the packages in SOURCES.
Exit code 1 if something does not resolve.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'tools'))
from setup_env import split_pins  # noqa: E402 (a script beside the package)

PYTHONS = ('3.10', '3.11', '3.12', '3.13', '3.14')
#: Platform as in the table -> uv's name. OpenVINO's wheel for aarch64 needs glibc 2.35.
PLATFORMS = {
    'Linux x86-64': 'x86_64-manylinux_2_28',
    'Linux aarch64': 'aarch64-manylinux_2_35',
    'macOS 14 arm64': 'aarch64-apple-darwin',
}
SOURCES = ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation', 'onedl-mmpretrain')


def resolve(text: str, python: str, platform: str, *options: str) -> str:
    """Return '' if all requirements of a text resolve, or the resolver's reason."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'requirements.in'
        path.write_text(text)
        wheels = ['--only-binary', ':all:', *(part for name in SOURCES for part in ('--no-binary', name))]
        where = ['--python-version', python, '--python-platform', platform, '-o', os.devnull]
        command = [
            'uv',
            'pip',
            'compile',
            '--quiet',
            '--color',
            'never',
            *where,
            *wheels,
            *options,
            str(path),
        ]
        environment = os.environ | {'MACOSX_DEPLOYMENT_TARGET': '14.0'}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    reason = re.search(r'cause: (.*)', done.stderr) or re.search(r'error: (.*)', done.stderr)
    return '' if not done.returncode else reason[1] if reason else done.stderr.strip()


def main() -> None:
    """Resolve and print."""
    if not shutil.which('uv'):
        sys.exit('pins: needs uv: pip install uv')
    with_needs, without = split_pins()
    print(f'| Python | {" | ".join(PLATFORMS)} |', f'|---|{"---|" * len(PLATFORMS)}', sep='\n')
    failures = []
    for python in PYTHONS:
        cells = []
        for title, platform in PLATFORMS.items():
            parts = ((with_needs, ()), (without, ('--no-deps',)))
            reasons = [resolve(text, python, platform, *options) for text, options in parts]
            failures += [f'Python {python}, {title}: {reason}' for reason in reasons if reason]
            cells.append('no' if any(reasons) else 'resolves')
        print(f'| {python} | {" | ".join(cells)} |', flush=True)
    print(*failures, sep='\n', end='\n' if failures else '', file=sys.stderr)
    sys.exit(bool(failures))


if __name__ == '__main__':
    main()
