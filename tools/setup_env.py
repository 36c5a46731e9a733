#!/usr/bin/env python3
"""Make .venv with everything in requirements.txt, in the order that gives mmcv its compiled operators (`make setup` calls this).

Standard library only. Safe to repeat: a finished environment is left alone, in no time. A failure is one line with its remedy.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
LOG = VENV / 'setup.log'
PINS = ROOT / 'requirements.txt'
PYTHONS = ((3, 10), (3, 13))
#: What a line of pip's output means: first match wins.
REASONS = (
    (r'No space left on device', 'the disk is full: the environment takes about 8 GB'),
    (
        r'NewConnectionError|Temporary failure in name resolution|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Network is unreachable',
        'no network: the package registry cannot be reached; check the connection, the proxy or PIP_INDEX_URL and run again',
    ),
    (
        r'Python\.h: No such file',
        'the Python headers are missing: install them (Debian: apt-get install python3-dev) and run again',
    ),
    (
        r'Killed|out of memory|Cannot allocate memory',
        'out of memory while compiling: run again with MAX_JOBS=1',
    ),
    (
        r'CUDA_HOME environment variable is not set|The detected CUDA version',
        'mmcv needs nvcc of the CUDA that torch has, 13.x: install it and set CUDA_HOME, or set CUDA_VISIBLE_DEVICES= for the CPU',
    ),
    (r'error: command .*(gcc|g\+\+|c\+\+|clang|ninja)', 'the C++ compiler failed'),
    (
        r'No matching distribution found for (\S+)',
        'the package registry has no such version for this Python (or cannot be reached)',
    ),
)


def fail(message: str) -> None:
    """One line, exit code 2."""
    print(f'setup: {message}', file=sys.stderr)
    sys.exit(2)


def run(title: str, command: list) -> None:
    """One step: its output goes to the log, its duration to the screen."""
    start = time.monotonic()
    print(f'setup: {title} ...', flush=True)
    with LOG.open('a') as log:
        log.write(f'\n=== {title}: {" ".join(command)}\n')
        log.flush()
        begin = LOG.stat().st_size
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        while True:
            try:
                code = process.wait(timeout=60)
                break
            except subprocess.TimeoutExpired:
                print(f'setup:   still at it, {time.monotonic() - start:.0f} s', flush=True)
    if code:
        output = LOG.read_bytes()[begin:].decode(errors='replace')
        reason = next(
            (text for pattern, text in REASONS if re.search(pattern, output)), f'pip ended with {code}'
        )
        fail(f'step "{title}" failed: {reason} (full output: {LOG})')
    print(f'setup:   done in {time.monotonic() - start:.0f} s', flush=True)


def main() -> None:
    """Check what can be checked first, then install."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        wanted = ' to '.join('.'.join(map(str, v)) for v in PYTHONS)
        fail(
            f'Python {sys.version.split()[0]} at {sys.executable}: need {wanted}; run `make setup BOOTSTRAP=python3.11` with such a one'
        )
    stamp = VENV / '.complete'
    wanted = hashlib.sha256(
        PINS.read_bytes() + (ROOT / 'pyproject.toml').read_bytes() + str(ROOT).encode()
    ).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if not (os.environ.get('CXX') or shutil.which('c++') or shutil.which('g++') or shutil.which('clang++')):
        fail(
            'no C++ compiler, which mmcv needs for its operators: install one (Debian: apt-get install g++) or set CXX'
        )
    if not (VENV / 'bin' / 'python').exists():
        made = subprocess.run([sys.executable, '-m', 'venv', str(VENV)], capture_output=True, text=True)
        if made.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            fail('cannot make .venv: ' + (made.stdout + made.stderr).strip().replace('\n', ' ')[:300])
    stamp.unlink(missing_ok=True)
    python = str(VENV / 'bin' / 'python')
    pip = [python, '-m', 'pip', 'install', '--disable-pip-version-check', '-c', str(PINS)]
    run('build tools', [*pip, 'pip>=24', 'setuptools', 'wheel', 'ninja', 'psutil', 'packaging', 'numpy'])
    run('torch (about 3 GB of wheels)', [*pip, 'torch', 'torchvision'])
    run(
        'mmcv, compiling its operators (6 to 25 minutes on 2 cores, the first time)',
        [*pip, '--no-build-isolation', 'onedl-mmengine', 'onedl-mmcv'],
    )
    run('everything else', [*pip, '--no-build-isolation', '-r', str(PINS)])
    run('this package, editable', [*pip, '--no-build-isolation', '--no-deps', '-e', str(ROOT)])
    check = subprocess.run([python, str(ROOT / 'tools' / 'doctor.py')], capture_output=True, text=True)
    if check.returncode:
        print(check.stdout, check.stderr)
        fail(f'the environment is not usable, see above (full output: {LOG})')
    stamp.write_text(wanted)
    print('setup: ready, .venv has everything', flush=True)


if __name__ == '__main__':
    main()
