"""The ``fastervit`` command.

It imports only the standard library until a verb has parsed its options, so that ``--help`` answers at once.
"""

import ast
import importlib
import sys
from pathlib import Path

from .console import UsageError, run_cli
from .package import utils

#: Each is a file in verbs/, whose first line says what it does.
VERBS = (
    *('train', 'test', 'predict', 'finetune', 'check-data', 'convert-data', 'prepare-data'),
    *('analyze-results', 'plot-logs', 'visualize-attention', 'app', 'publish', 'export', 'benchmark'),
    *('ablate', 'convert-checkpoint', 'config', 'demo', 'make-shapes', 'doctor'),
)


def main(verb: str | None = None) -> None:
    """Run a verb; None: the one that the command line names."""
    run_cli(lambda: _run(verb))


def _run(verb: str | None) -> None:
    arguments = sys.argv[1:] if verb is None else [verb, *sys.argv[1:]]
    if not arguments or arguments[0] in ('-h', '--help'):
        width = max(map(len, VERBS))
        print('usage: fastervit VERB ...\n')
        print('\n'.join(f'  {verb:{width}}  {_first_line(verb)}' for verb in VERBS))
        print('\nfastervit VERB --help describes a verb.')
        return
    verb = arguments[0]
    if verb not in VERBS:
        hint = utils('suggest').did_you_mean(verb, VERBS) or ': fastervit --help lists them'
        raise UsageError(f'unknown verb {verb!r}{hint}')
    sys.argv = [f'fastervit {verb}', *arguments[1:]]
    importlib.import_module(f'{__name__}.verbs.{_module(verb)}').main()


def _module(verb: str) -> str:
    return verb.replace('-', '_')


def _first_line(verb: str) -> str:
    """Read the first line of a verb's docstring, without importing it."""
    source = Path(__file__).parent / 'verbs' / f'{_module(verb)}.py'
    text = ast.get_docstring(ast.parse(source.read_text(encoding='utf-8'))) or ''
    return text.partition('\n')[0].rstrip('.')
