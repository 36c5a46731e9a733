"""Run a tool in a fork of a process that has imported torch and the toolkits, which takes each tool seconds.

Exit code, output, folder, environment and limits are those of a process of its own; imports are not, so
that tests/test_wheel.py runs each verb in a new one. A request is a line of
JSON on stdin, the answer one on stdout: ``{"argv", "cwd", "environment", "output", "file_limit",
"timeout"}`` -> ``{"returncode"}``; what the tool prints is in the files OUTPUT.out and OUTPUT.err.
"""

import atexit
import contextlib
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback

MODULES = (
    *('torch', 'torchvision', 'mmengine.runner', 'mmcv', 'cv2', 'matplotlib.figure', 'pycocotools.coco'),
    *(
        'fastervit_backbone',
        'mmdet.models',
        'mmdet.datasets',
        'mmdet.evaluation',
        'mmseg.models',
        'mmseg.datasets',
    ),
    *(
        'fastervit_backbone.apis.train',
        'fastervit_backbone.apis.evaluate',
        'fastervit_backbone.apis.predictor',
    ),
    *('fastervit_backbone.finetune', 'yapf.yapflib.yapf_api'),
)


def main() -> None:
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what imports print is no answer
    for module in MODULES:
        with contextlib.suppress(ImportError):  # an environment without the toolkits
            importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            answers.close()
            run(request)
        code = wait(child, request['timeout'])
        answers.write(json.dumps(dict(returncode=code)) + '\n')
        answers.flush()


def wait(child: int, timeout: float) -> int | None:
    """Return the exit code as subprocess does, -N after signal N; None after the timeout."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run(request: dict) -> None:
    """Be the tool; never returns."""
    os.setpgid(0, 0)
    files = [
        os.open(f'{request["output"]}.{end}', os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for end in ('out', 'err')
    ]
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (files[0], 1), (files[1], 2)):
        os.dup2(source, target)
    sys.stdin = open(0)
    sys.stdout = open(1, 'w', encoding='utf-8', closefd=False)
    sys.stderr = open(2, 'w', encoding='utf-8', closefd=False, errors='backslashreplace')
    os.environ.clear()
    os.environ.update(request['environment'])
    os.chdir(request['cwd'])
    resource.setrlimit(resource.RLIMIT_FSIZE, (request['file_limit'], resource.RLIM_INFINITY))
    sys.argv = request['argv']
    sys.path[0] = os.path.dirname(sys.argv[0])
    reseed()
    code: object = 0
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as error:
        code = error.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))  # type: ignore[call-overload]


def reseed() -> None:
    """Give this process random numbers of its own, as a new one has."""
    import random

    random.seed()
    if 'numpy' in sys.modules:
        sys.modules['numpy'].random.seed()


if __name__ == '__main__':
    main()
