"""Run tools in forks of a process that has imported torch and the toolkits, which takes each tool seconds.

Exit code, output, folder, environment, process group and limits are those of a process of its own;
imports are not, so that tests/test_wheel.py runs each verb in a new one. tests/processes.py asks. A
request is a line of JSON on stdin, the answer one on stdout:
``{"argv", "cwd", "environment", "stdout", "stderr", "file_limit"}`` -> ``{"pid"}``;
``{"wait": pid, "seconds"}`` -> ``{"returncode"}``, null while it runs.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
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
        'fastervit_backbone.train',
        'fastervit_backbone.evaluate',
        'fastervit_backbone.inference.predictor',
    ),
    'fastervit_backbone.finetune',
)


def main() -> None:
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what imports print is no answer
    for module in MODULES:
        with contextlib.suppress(ImportError):  # an environment without the toolkits
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # garbage collections of the forks leave out what was imported
    for line in sys.stdin:
        request = json.loads(line)
        if 'wait' in request:
            answer = dict(returncode=wait(request['wait'], request['seconds']))
        else:
            child = os.fork()
            if not child:
                answers.close()
                run(request)
            answer = dict(pid=child)
        answers.write(json.dumps(answer) + '\n')
        answers.flush()


def wait(child: int, seconds: float) -> int | None:
    """Return the exit code as subprocess does, -N after signal N; None if it runs on."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.01)


def run(request: dict) -> None:
    """Be the tool; never returns."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for target, name in enumerate(('stdout', 'stderr'), 1):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND), target)
    sys.stdin = open(0)
    sys.stdout = open(1, 'w', encoding='utf-8', closefd=False)
    sys.stderr = open(2, 'w', encoding='utf-8', closefd=False, errors='backslashreplace')
    os.environ.clear()
    os.environ.update(request['environment'])
    os.chdir(request['cwd'])
    resource.setrlimit(resource.RLIMIT_FSIZE, (request['file_limit'], resource.RLIM_INFINITY))
    sys.argv = request['argv']
    given = request['environment'].get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:1] = [os.path.dirname(sys.argv[0]), *(path for path in given if path and path not in sys.path)]
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
