"""Frame of every verb: a user error is one line on stderr and exit code 2, a bug keeps its traceback.

This package imports only the standard library, so that ``--help`` answers at once.
"""

import atexit
import io
import os
import sys
from collections.abc import Callable

from .pins import headless_opencv, missing_library

#: Packages of the extra ``mm``, without which only the backbone works.
EXTRAS = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'torchvision', 'pycocotools', 'cv2', 'supervision', 'rich')


# OpenMP's threads wait for each other in a loop. Where another process keeps the cores busy, this makes
# training half as fast as with shorter loops; alone it makes no difference. torch's libgomp reads the
# variable when it is loaded.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')


class UsageError(Exception):
    """A command line that cannot be understood."""

    exit_code = 2


def _user_errors() -> tuple[type[Exception], ...]:
    """Return the types of errors that are one line; the package is not imported for them."""
    errors = sys.modules.get('fastervit_backbone.utils.errors')
    return (UsageError,) if errors is None else (UsageError, errors.UserError)


def _one_line(error: Exception) -> str:
    """Put a message on one line, without what would control a terminal."""
    text = ' '.join(str(error).split())
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def run_cli(main: Callable[[], None]) -> None:
    """Run ``main`` and exit, with 2 after a user error and 128 + its number after a signal."""
    code: str | int | None = 0
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files can be no text
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ImportError as error:
        library = missing_library(error)
        if library and 'cv2' in f'{error.name} {error.path}':  # an OpenCV with windows, on a machine without
            message = f'OpenCV needs {library}, which this system lacks: {headless_opencv()}'
        elif isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            message = f"this needs the package {error.name}: pip install 'fastervit-backbone[mm]' "
            message += '(in a checkout: make setup)'
        else:
            raise
        print(f'error: {message}', file=sys.stderr)
        code = 2
    except Exception as error:
        if 'torchvision::nms does not exist' in str(error):  # at the import of torchvision
            message = 'torchvision was built for another torch: fastervit doctor has the fix'
            print(f'error: {message}', file=sys.stderr)
            sys.exit(2)
        if not isinstance(error, _user_errors()):
            raise
        kind = {'Interrupted': 'stopped', 'OtherProcessError': ''}.get(type(error).__name__, 'error')
        if kind:  # the other process reports it
            print(f'{kind}: {_one_line(error)}', file=sys.stderr)
        code = getattr(error, 'exit_code', 2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    except SystemExit as error:
        code = error.code
    _exit(code)


def _exit(code: str | int | None) -> None:
    """Exit; in a distributed run without C++'s static destructors.

    Some threads of torch.distributed cannot be stopped, and occasionally one of them aborts a process during
    these destructors, although all its work is done. Python's own exit handlers still run.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        sys.exit(code)
    distributed.destroy_process_group()
    if isinstance(code, str):  # like sys.exit
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
