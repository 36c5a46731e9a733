"""The ``fastervit`` command: one verb for each tool.

It imports only the standard library until a verb needs more, so that ``--help`` answers at once.
"""

import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from .console import VARIABLE, UsageError, run_cli
from .suggest import did_you_mean

#: Verb -> what it does; the tool of the same name is run, ``check-data`` is check_data.py.
VERBS = {
    'train': 'train a detector, segmenter or classifier from a config',
    'test': 'evaluate a checkpoint',
    'predict': 'predict on images, folders and videos',
    'finetune': 'train on your own data: a plan, a config, a run',
    'check-data': 'report every problem of a data set',
    'convert-data': 'convert YOLO, VOC, masks and label maps',
    'prepare-data': 'put COCO, ADE20K, VOC or ImageNet in place',
    'analyze-results': 'per-class metrics, confusion and worst mistakes as one page',
    'plot-logs': 'draw the curves of runs',
    'visualize-attention': 'draw what an attention layer looks at',
    'app': 'try a model on a local web page',
    'publish': 'write the best model of a run as a folder that others can use',
    'export': 'export a model to ONNX or OpenVINO, and compare the file with it',
    'benchmark': 'measure speed and memory',
    'ablate': "measure the paper's ablations",
    'convert-checkpoint': 'make a small file of published weights',
    'config': 'list, show or compare configs',
    'demo': 'generate a data set, train, evaluate and draw, in minutes on a CPU',
    'make-shapes': "generate the demo's data set",
    'doctor': 'check the environment',
}


def package_folder() -> Path:
    """Return the folder of the installed package, without importing it."""
    spec = find_spec('fastervit_backbone')
    if spec is None or spec.origin is None:
        raise UsageError('the package fastervit_backbone is not installed: pip install fastervit-backbone')
    return Path(spec.origin).parent


def data_folder(name: str) -> Path:
    """Return ``configs`` or ``tools``: inside the wheel, else beside the package in a checkout."""
    package = package_folder()
    inside = package / '.mim' / {'configs': 'configs/fastervit', 'tools': 'tools'}[name]
    return inside.resolve() if inside.is_dir() else package.parent / name


def own_configs() -> dict[str, Path]:
    """Return the configs that a run can use, by name: all but the bases, ``demo/cascade_shapes``."""
    folder = data_folder('configs')
    leaves = (path for path in sorted(folder.rglob('*.py')) if '_base_' not in path.parts)
    return {str(path.relative_to(folder).with_suffix('')): path for path in leaves}


def main() -> None:
    """Run the verb that the command line names."""
    run_cli(_run)


def _run() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ('-h', '--help'):
        width = max(map(len, VERBS))
        print(
            'usage: fastervit VERB ...\n\n' + '\n'.join(f'  {v:{width}}  {text}' for v, text in VERBS.items())
        )
        print('\nfastervit VERB --help describes a verb.')
        return
    verb = arguments[0]
    if verb not in VERBS:
        hint = did_you_mean(verb, VERBS) or ': fastervit --help lists them'
        raise UsageError(f'unknown verb {verb!r}{hint}')
    tool = data_folder('tools') / f'{verb.replace("-", "_")}.py'
    if not tool.is_file():
        raise UsageError(f'{tool} is missing: install the package again')
    os.environ[VARIABLE] = f'fastervit {verb}'
    sys.argv = [str(tool), *arguments[1:]]
    runpy.run_path(str(tool), run_name='__main__')
