"""Folders that fastervit publish wrote, here or on the Hugging Face Hub."""

import ast
from pathlib import Path

from ..utils.errors import UserError, cause_of
from ..utils.trust import pickles_are_trusted

WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = 'model.safetensors', 'config.py', 'README.md'
#: Start of the name of a folder on the Hub: ``hf://user/name``.
HUB = 'hf://'


def is_published(name: str | Path) -> bool:
    """Return whether a name is that of such a folder."""
    folder = Path(name)
    return str(name).startswith(HUB) or all((folder / n).is_file() for n in (WEIGHTS_NAME, CONFIG_NAME))


def resolve_published(name: str | Path) -> tuple[Path, Path]:
    """Return config and weights of a folder, downloaded if it is on the Hub.

    Raises:
        UserError: the download failed, or a config from the Hub is more than data.
    """
    folder = Path(name)
    if str(name).startswith(HUB):
        repo_id = str(name).removeprefix(HUB)
        try:
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(repo_id, allow_patterns=[WEIGHTS_NAME, CONFIG_NAME]))
        except Exception as error:  # the Hub's library raises errors of its HTTP client
            raise UserError(
                f'{name}: {cause_of(error)[:200]}: check the id and the network, or name a folder'
            ) from error
        if not is_published(folder):
            raise UserError(f'{name} has no {CONFIG_NAME} and {WEIGHTS_NAME}: fastervit publish writes them')
        if not _is_data(folder / CONFIG_NAME) and not pickles_are_trusted():
            raise UserError(
                f'{name}: its {CONFIG_NAME} would run code (--trust-pickle: only for people whom you trust)'
            )
    return folder / CONFIG_NAME, folder / WEIGHTS_NAME


def _is_data(config: Path) -> bool:
    """Return whether a config only assigns constants and calls of dict, as fastervit publish writes it."""

    def is_safe(node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords):
                return all(keyword.arg is not None and is_safe(keyword.value) for keyword in keywords)
            case ast.Dict(keys=keys, values=values):
                return all(key is not None and is_safe(key) for key in keys) and all(map(is_safe, values))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return all(map(is_safe, items))
            case ast.UnaryOp(operand=operand):
                return is_safe(operand)
        return isinstance(node, ast.Constant)

    try:
        body = ast.parse(config.read_text()).body
    except (SyntaxError, UnicodeDecodeError):
        return False
    names = [t.id for s in body if isinstance(s, ast.Assign) for t in s.targets if isinstance(t, ast.Name)]
    return '_base_' not in names and all(isinstance(s, ast.Assign) and is_safe(s.value) for s in body)
