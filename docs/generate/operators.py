"""Print docs/install.md's table: which of mmcv's operators run on torchvision, in torch, or only compiled."""

import ast
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

from fastervit_backbone.ops import boxes, deformable, masked_conv, torchvision_ops

#: Endings of the functions that belong to one operator.
_ENDING = re.compile(r'_(forward|backward)(_input|_parameters)?$')
_MODULES = (torchvision_ops, deformable, boxes, masked_conv)


def ours() -> dict[str, str]:
    """Return operator -> 'torchvision' or 'torch', by what the functions call."""
    found: dict[str, str] = {}
    for module in _MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith('_'):
                uses = re.search(r'_OPS\.|_plain\(|_modulated\(', inspect.getsource(function))
                found.setdefault(_ENDING.sub('', name), 'torchvision' if uses else 'torch')
    return found


def all_operators() -> set[str]:
    """Return the operators that mmcv's Python code loads from its extension."""
    spec = find_spec('mmcv')
    assert spec is not None and spec.submodule_search_locations
    names = set()
    for path in (Path(spec.submodule_search_locations[0]) / 'ops').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'load_ext':
                names |= {_ENDING.sub('', name) for name in ast.literal_eval(node.args[1])}
    return {name for name in names if not name.startswith('get_')}


def table() -> str:
    """Return the table in Markdown."""
    kinds = ours()
    rows = ['| runs | operators |', '|---|---|']
    for title, kind in (("on torchvision's", 'torchvision'), ('in torch', 'torch')):
        names = sorted(name for name, value in kinds.items() if value == kind)
        rows.append(f'| {title} | {", ".join(names)} |')
    rest = sorted(all_operators() - kinds.keys())
    return '\n'.join([*rows, f'| only compiled | {", ".join(rest)} |'])


if __name__ == '__main__':
    print(table())
