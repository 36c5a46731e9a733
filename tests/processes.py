"""Verbs as processes: forks of one that has imported the toolkits (tool_server.py), or new ones."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from threading import Lock

from tests.helpers import ROOT

TIMEOUT = 900
#: Script of the ``fastervit`` command.
COMMAND = ROOT / 'tests' / 'run_verb.py'
#: Starts of the names of variables that are read when Python or a library starts: a process of its own then.
_OF_THE_START = ('PYTHON', 'OMP', 'MKL', 'CUDA', 'HF_', 'TORCH', 'LD_')
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']


def environment(**variables):
    roots = ('COCO_ROOT', 'ADE_ROOT', 'VOC_ROOT', 'SHAPES_ROOT')
    inherited = {k: v for k, v in os.environ.items() if k not in roots}
    fixed = {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    return inherited | fixed | variables


@cache
def _server():
    """Start the process that forks, which ends with this one."""
    server = [sys.executable, str(ROOT / 'tests' / 'tool_server.py')]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return subprocess.Popen(server, env=environment(), cwd=ROOT, **pipes), Lock()


def _ask(**request):
    server, lock = _server()
    with lock:
        server.stdin.write(json.dumps(request) + '\n')
        server.stdin.flush()
        answer = server.stdout.readline()
    assert answer, f'tests/tool_server.py ended with {server.poll()}: run it by hand to see why'
    return json.loads(answer)


class Fork:
    """A script in a fork that leads its own session; like subprocess.Popen, with its output in files."""

    def __init__(self, argv, cwd, variables, stdout, stderr):
        request = dict(argv=list(map(str, argv)), cwd=str(cwd), environment=variables)
        request |= dict(stdout=str(stdout), stderr=str(stderr))
        for path in (stdout, stderr):
            Path(path).touch()  # who starts a process reads its log at once
        self.pid = _ask(**request, file_limit=resource.getrlimit(resource.RLIMIT_FSIZE)[0])['pid']
        self.args, self.returncode = argv, None

    def poll(self):
        return self._wait(0)

    def _wait(self, seconds):
        if self.returncode is None:
            self.returncode = _ask(wait=self.pid, seconds=seconds)['returncode']
        return self.returncode

    def kill(self):
        os.killpg(self.pid, signal.SIGKILL)
        self._wait(TIMEOUT)

    def wait(self, timeout=TIMEOUT):
        code = self._wait(timeout)
        if code is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code


def start_verb(verb, *arguments, cwd, log, **variables):
    """Start a verb in a fork, with stdout and stderr at the end of one file."""
    return Fork([COMMAND, verb, *arguments], cwd, environment(**variables), log, log)


def verb(name, *arguments, cwd, **variables):
    """Run a verb of ``fastervit``, in a fork if that is the same."""
    return script(COMMAND, name, *arguments, cwd=cwd, **variables)


def script(path, *arguments, cwd, **variables):
    """Run a Python script, in a fork if that is the same."""
    command = [str(path), *map(str, arguments)]
    of_the_start = any(name.startswith(_OF_THE_START) for name in variables if name != 'PYTHONPATH')
    if 'doctor' in command or of_the_start:
        options = dict(cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=TIMEOUT)
        return subprocess.run([sys.executable, *command], **options)
    return _finished([command], cwd, environment(**variables), [{}])


def ranks(path, *arguments, cwd, processes=2, **variables):
    """Run a script in several processes that can meet, as torchrun starts them; all end when one fails.

    Returns:
        The first exit code that is not 0, and what they printed, one after the other.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        meeting = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free.getsockname()[1]))
    meeting |= dict(WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes), TORCHELASTIC_RUN_ID='test')
    command = [str(path), *map(str, arguments)]
    each = [meeting | dict(RANK=str(i), LOCAL_RANK=str(i)) for i in range(processes)]
    return _finished([command] * processes, cwd, environment(**variables), each)


def _finished(commands, cwd, variables, each):
    """Run commands beside each other, with further variables for each, and return how they ended."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [[Path(folder, f'{i}.{end}') for end in ('out', 'err')] for i in range(len(commands))]
        forks = [
            Fork(command, cwd, variables | own, *files)
            for command, own, files in zip(commands, each, outputs, strict=True)
        ]
        end = time.monotonic() + TIMEOUT
        while any(fork._wait(0.02) is None for fork in forks):
            failed = any(fork.returncode for fork in forks)
            if failed or time.monotonic() > end:
                for fork in forks:
                    if fork._wait(5 if failed else 0) is None:
                        fork.kill()
                if not failed:
                    raise subprocess.TimeoutExpired(commands[0], TIMEOUT)
        code = next((fork.returncode for fork in forks if fork.returncode), 0)
        printed = [''.join(pair[i].read_text(errors='replace') for pair in outputs) for i in range(2)]
    return subprocess.CompletedProcess(commands[0], code, *printed)
