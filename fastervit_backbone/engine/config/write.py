"""The text of a config."""

import ast
from typing import Any

from mmengine.config import Config

_WIDTH = 100
_INDENT = 4


class ReadableConfig(Config):
    """A config that is written in milliseconds.

    mmengine formats the text with yapf, again for the log, for each checkpoint and for each file, which takes
    seconds each time; here the syntax tree is printed.
    """

    def __init__(self, config: Config) -> None:
        described = dict(cfg_text=config.text, filename=config.filename, env_variables=config.env_variables)
        super().__init__(config._cfg_dict, **described, format_python_code=False)
        object.__setattr__(self, '_imported_names', config._imported_names)

    def remember_file(self) -> None:
        """Keep what the file's schedule was written for, whatever options change."""
        wrapper, loop = (self._cfg_dict.get(key) or {} for key in ('optim_wrapper', 'train_cfg'))
        kept = dict(accumulated=wrapper.get('accumulative_counts', 1), max_iters=loop.get('max_iters'))
        object.__setattr__(self, 'as_in_file', kept)

    @property
    def pretty_text(self) -> str:
        """The config as Python."""
        lines = ast.parse(super().pretty_text).body
        return ''.join(f'{_statement(line)}\n' for line in lines)


def as_python(config: Config) -> str:
    """Format a config as Python whose values survive being read again.

    mmengine replaces ``{{...}}`` in the text of a config, in comments and strings too, before it runs it: the
    name of a class or folder could so become code. Here such a name is written with an escape.
    """
    return escape(ReadableConfig(config).pretty_text)


def escape(text: str) -> str:
    r"""Write ``{{`` in strings and comments of a Python text as ``{\x7b``, which Python reads as the same."""
    return text.replace('{{', r'{\x7b')


def _statement(node: ast.stmt) -> str:
    """Print an assignment with its value on as many lines as it needs."""
    if not isinstance(node, ast.Assign):
        return ast.unparse(node)
    start = f'{ast.unparse(node.targets[0])} = '
    return start + _expression(node.value, 0, len(start))


def _expression(node: ast.expr, indent: int, used: int) -> str:
    """Print a value; one that is too long for the rest of its line has each item on a line of its own."""
    line = ast.unparse(node)
    if used + len(line) < _WIDTH:
        return line
    inner = indent + _INDENT
    items: list[tuple[str, Any]]
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[]):
            ends, items = ('dict(', ')'), [(f'{item.arg}=', item.value) for item in node.keywords]
        case ast.Dict():
            keys = [ast.unparse(key) for key in node.keys if key is not None]
            ends, items = (
                ('{', '}'),
                [(f'{key}: ', value) for key, value in zip(keys, node.values, strict=True)],
            )
        case ast.List() | ast.Tuple():
            ends = ('[', ']') if isinstance(node, ast.List) else ('(', ')')
            items = [('', item) for item in node.elts]
        case _:
            return line
    rows = [f'{" " * inner}{key}{_expression(item, inner, inner + len(key))},\n' for key, item in items]
    return f'{ends[0]}\n{"".join(rows)}{" " * indent}{ends[1]}'
