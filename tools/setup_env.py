#!/usr/bin/env python3
"""Create .venv with everything in requirements.txt; `make setup` calls this.

Nothing is compiled: mmcv's operators run on torchvision. `make setup OPS=compiled` compiles mmcv's own, which
needs a C++ compiler, and on a GPU machine nvcc. It can be repeated safely: a complete environment is left
unchanged. A failed step prints one line with its reason.
"""

# Standard library only.
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
PYTHONS = ((3, 10), (3, 14))
#: Starts the part of requirements.txt whose packages are installed without what they ask for.
NO_DEPS = '# --no-deps'
NETWORK_ERRORS = (
    'NewConnectionError|Temporary failure in name resolution|ConnectTimeout|ReadTimeout|ProxyError|SSLError|'
    'Network is unreachable'
)
#: (pattern in pip's output, reason and remedy); the first match is reported.
REASONS = (
    (r'No space left on device', 'the disk is full: the environment takes about 8 GB'),
    (
        NETWORK_ERRORS,
        'the package registry cannot be reached: check the network, the proxy or PIP_INDEX_URL and run again',
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
        "mmcv needs nvcc of torch's CUDA version, 13.x: install it and set CUDA_HOME, or set "
        'CUDA_VISIBLE_DEVICES= for the CPU',
    ),
    (r'error: command .*(gcc|g\+\+|c\+\+|clang|ninja)', 'the C++ compiler failed'),
    (
        r'No matching distribution found for (\S+)',
        'the package registry has no such version for this Python, or cannot be reached',
    ),
)


def fail(message: str) -> None:
    """Print one line and exit with code 2."""
    print(f'setup: {message}', file=sys.stderr)
    sys.exit(2)


def run(title: str, command: list[str]) -> None:
    """Run one step, with its output in the log and its duration on the screen."""
    start = time.monotonic()
    print(f'setup: {title} ...', flush=True)
    with LOG.open('a') as log:
        log.write(f'\n=== {title}: {" ".join(command)}\n')
        log.flush()
        log_start = LOG.stat().st_size
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        while True:
            try:
                code = process.wait(timeout=60)
                break
            except subprocess.TimeoutExpired:
                print(f'setup:   still running, {time.monotonic() - start:.0f} s', flush=True)
    if code:
        output = LOG.read_bytes()[log_start:].decode(errors='replace')
        reasons = (reason for pattern, reason in REASONS if re.search(pattern, output))
        reason = next(reasons, f'pip exited with code {code}')
        fail(f'step "{title}" failed: {reason} (full output: {LOG})')
    print(f'setup:   done in {time.monotonic() - start:.0f} s', flush=True)


def check_python() -> None:
    """Exit unless this Python is supported."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        supported = ' to '.join('.'.join(map(str, numbers)) for numbers in PYTHONS)
        fail(
            f'Python {sys.version.split()[0]} at {sys.executable} is not supported: run '
            f'`make setup BOOTSTRAP=python3.11` with a Python {supported}'
        )


def check_compiler() -> None:
    """Exit unless there is a C++ compiler."""
    if not (os.environ.get('CXX') or any(map(shutil.which, ('c++', 'g++', 'clang++')))):
        fail('no C++ compiler, which mmcv needs: install one (Debian: apt-get install g++) or set CXX')


def split_pins() -> tuple[str, str]:
    """Return the part of requirements.txt whose packages bring what they need, and the one without."""
    first, _, rest = PINS.read_text().partition(NO_DEPS)
    return first, f'#{rest}'


def remove_windowed_opencv(python: Path) -> None:
    """Uninstall an earlier set-up's OpenCV with windows: it writes the same folder as the headless one."""
    if any((VENV / 'lib').glob('python*/site-packages/opencv_python-*.dist-info')):
        packages = ['opencv-python', 'opencv-python-headless']
        run('removing opencv-python', [str(python), '-m', 'pip', 'uninstall', '-y', *packages])


def install(compiled: bool) -> None:
    """Create the environment and install everything in order."""
    python = VENV / 'bin' / 'python'
    if not python.exists():
        done = subprocess.run([sys.executable, '-m', 'venv', str(VENV)], capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            fail('cannot create .venv: ' + (done.stdout + done.stderr).strip().replace('\n', ' ')[:300])
    pip = [str(python), '-m', 'pip', 'install', '--disable-pip-version-check', '-c', str(PINS)]
    run('build tools', [*pip, 'pip>=24', 'setuptools', 'wheel'])
    remove_windowed_opencv(python)
    run('torch (about 3 GB of wheels)', [*pip, 'torch', 'torchvision'])
    if compiled:
        run('tools to compile mmcv', [*pip, 'ninja', 'psutil', 'packaging', 'numpy'])
        # without isolation it finds torch, and compiles
        options = ['--no-build-isolation', '--no-cache-dir', '--force-reinstall', '--no-deps']
        title = 'mmcv, compiling its operators (6 to 25 minutes on 2 cores)'
        run(title, [*pip, *options, 'onedl-mmcv'])
    for name, part, options in zip(
        ('everything else', 'mm packages'), split_pins(), ([], ['--no-deps']), strict=True
    ):
        path = VENV / f'{name.split()[0]}.txt'
        path.write_text(part)
        run(name, [*pip, *options, '-r', str(path)])
    run('this package, editable', [*pip, '--no-build-isolation', '--no-deps', '-e', str(ROOT)])
    doctor = [str(python), str(ROOT / 'tools' / 'doctor.py')]
    done = subprocess.run(doctor, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr)
        fail(f'the environment is not usable, see above (full output: {LOG})')


def main() -> None:
    """Check the arguments and install unless the environment is complete."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    check_python()
    operators = os.environ.get('OPS', 'torchvision')
    if operators not in ('torchvision', 'compiled'):
        fail(f'OPS={operators}: torchvision (the default) or compiled')
    stamp = VENV / '.complete'
    inputs = b''.join((ROOT / name).read_bytes() for name in (PINS.name, 'pyproject.toml', 'setup.py'))
    inputs += str(ROOT).encode()
    digest = hashlib.sha256(inputs).hexdigest()
    complete, _, installed = stamp.read_text().partition(' ') if stamp.is_file() else ('', '', '')
    if complete == digest and installed in (operators, 'compiled'):
        return
    if operators == 'compiled':
        check_compiler()
    stamp.unlink(missing_ok=True)
    install(operators == 'compiled')
    stamp.write_text(f'{digest} {operators}')
    print('setup: complete, .venv has everything', flush=True)


if __name__ == '__main__':
    main()
