"""Everything that only a GPU can show, in steps of less than ten minutes; the twin is the same on a CPU."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import check_folder_writable
from fastervit_backbone.utils.suggest import did_you_mean

ROOT = Path(__file__).resolve().parent.parent
#: A machine that is lent for minutes stops a longer command.
STEP_SECONDS = 600
#: Image sizes on a GPU: classification, and detection as in the paper; beside each its size in the twin.
SIZES = {'64x224x224': '2x64x64', '128x224x224': '2x64x64', '8x800x1280': '1x96x160', '800x1280': '96x160'}
PEERS = [
    f'timm:{name}'
    for name in (
        'swin_tiny_patch4_window7_224',
        'swin_small_patch4_window7_224',
        'swin_base_patch4_window7_224',
        'convnext_tiny',
        'convnext_small',
        'convnext_base',
    )
]


def _against_published(*archs: str) -> list[str]:
    return [m for a in archs for m in (f'published:{a}', f'fastervit:{a}', f'fastervit:{a}:deploy')]


_BF16 = ['--dtype', 'bf16', '--channels-last']
_BOTH = ['--size', '128x224x224', '8x800x1280', *_BF16]
_SWIN, _CONVNEXT = ('configs/baselines/{}_swin-t_{}.py', 'configs/baselines/{}_convnext-t_{}.py')


def _whole(family: str, schedule: str) -> list[str]:
    peers = [_SWIN.format(family, schedule), _CONVNEXT.format(family, schedule)]
    ours = f'configs/{family}_fastervit2_{schedule}.py'
    return [*peers, ours, f'{ours}:deploy', '--size', '800x1280', '--dtype', 'fp32', 'bf16']


#: Step -> arguments of fastervit benchmark; its page is gpu_STEP.md.
BENCHMARKS: dict[str, list[str]] = {
    'published_small': [*_against_published('0', '1', '2'), *_BOTH],
    'published_large': [*_against_published('3', '4'), *_BOTH],
    'compiled': [*_against_published('2'), *_BOTH, '--compile'],
    'peers': [*(f'fastervit:{a}:deploy' for a in '234'), *PEERS, *_BOTH],
    'train': ['published:2', 'fastervit:2', PEERS[0], PEERS[3], '--size', '64x224x224', *_BF16, '--train'],
    'stages': ['fastervit:2:deploy', '--stages', '--size', '8x800x1280', '--dtype', 'bf16'],
    'windows': ['windows:2:sdpa', 'windows:2:flex', 'windows:2:plain', *_BOTH[:-1]],
    'cascade': _whole('cascade', '3x'),
    'upernet': _whole('upernet', '160k'),
}
#: Step -> pytest's selection; the page holds what it prints.
TESTS = {
    'tests': ['-m', 'gpu', '-k', 'not fifty_steps'],
    'families': ['-m', 'gpu', '-k', 'fifty_steps'],  # 50 steps with --amp of each family
}
STEPS = (*TESTS, *BENCHMARKS)


def run_steps(steps: Sequence[str], out: str | Path, twin: bool = False) -> None:
    """Run steps one after the other; one that fails or takes too long does not stop the next.

    Args:
        steps: of :data:`STEPS`; empty for all.
        out: folder of the pages, ``gpu_STEP.md``.
        twin: run on the CPU with small images, to try the steps themselves.

    Raises:
        UserError: an unknown step, no GPU, a folder that cannot be written, or steps that failed.
    """
    for step in steps:
        if step not in STEPS:
            raise UserError(f'unknown step {step!r}{did_you_mean(step, STEPS) or ": " + ", ".join(STEPS)}')
    if not (ROOT / 'tests').is_dir():
        raise UserError(f'the steps run in a checkout of the repository, {ROOT} is none')
    _check_device(twin)
    check_folder_writable('--out', out)
    Path(out).mkdir(parents=True, exist_ok=True)
    failed = []
    for step in steps or STEPS:
        start = time.monotonic()
        page = Path(out).resolve() / f'gpu_{step}'
        print(f'{step} ...', flush=True)
        problem = _run(_command(step, page, twin), page.with_suffix('.log'), twin)
        if step in TESTS:
            _write_test_page(page, step, problem)
        took = f'{time.monotonic() - start:.0f} s'
        print(f'{step}: {problem or "done"}, {took} ({page}.{"log" if problem else "md"})', flush=True)
        if problem:
            failed.append(step)
    if failed:
        raise UserError(f'{len(failed)} step(s) failed: {", ".join(failed)} (their .log is in {out})')


def _check_device(twin: bool) -> None:
    import torch

    if not twin and not torch.cuda.is_available():
        raise UserError('torch finds no CUDA device: --twin tries the steps on the CPU with small images')


def _command(step: str, page: Path, twin: bool) -> list[str]:
    if step in TESTS:
        return [
            sys.executable,
            '-m',
            'pytest',
            'tests/test_gpu.py',
            '-q',
            '-p',
            'no:cacheprovider',
            *TESTS[step],
        ]
    arguments = [
        a for a in BENCHMARKS[step] if not a.startswith('published:') or find_spec('fastervit') is not None
    ]
    if twin:
        arguments = [SIZES.get(a, a) for a in arguments]
        arguments += ['--device', 'cpu', '--rounds', '2']
    return [sys.executable, '-m', 'fastervit_cli', 'benchmark', *arguments, '--out', str(page)]


def _run(command: list[str], log: Path, twin: bool) -> str:
    """Run with output to ``log``; return what went wrong, or an empty text."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    if twin:
        env['CUDA_VISIBLE_DEVICES'] = ''
    with log.open('w') as file:
        options = dict(cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = subprocess.run(command, timeout=STEP_SECONDS, **options).returncode
        except subprocess.TimeoutExpired:
            return f'stopped after {STEP_SECONDS} s'
    if code:
        return f'failed with exit code {code}'
    return ''


def _write_test_page(page: Path, step: str, problem: str) -> None:
    import torch

    from fastervit_backbone.benchmark.throughput import describe_machine

    machine = describe_machine('cuda' if torch.cuda.is_available() else 'cpu')
    output = page.with_suffix('.log').read_text().strip().splitlines()
    summary = output[-1] if output else 'no output'
    facts = ', '.join(f'{name} {value}' for name, value in machine.items())
    text = f'# GPU: {step}\n\n`python tools/gpu.py {step}`: {problem or "no failure"}\n\n'
    page.with_suffix('.md').write_text(f'{text}{facts}\n\n    {summary}\n')
