"""Folders that fastervit publish wrote, here or on the Hugging Face Hub."""

from pathlib import Path

from ..utils.errors import UserError

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
        UserError: the download failed.
    """
    folder = Path(name)
    if str(name).startswith(HUB):
        repo_id = str(name).removeprefix(HUB)
        try:
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(repo_id, allow_patterns=[WEIGHTS_NAME, CONFIG_NAME]))
        except Exception as error:  # the Hub's library raises errors of its HTTP client
            cause = ' '.join(str(error.__cause__ or error).split())
            raise UserError(
                f'{name}: {cause[:200]}: check the id and the network, or name a folder'
            ) from error
        if not is_published(folder):
            raise UserError(f'{name} has no {CONFIG_NAME} and {WEIGHTS_NAME}: fastervit publish writes them')
    return folder / CONFIG_NAME, folder / WEIGHTS_NAME
