"""Folders that fastervit publish wrote, here or on the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..utils.errors import UserError, cause_of

WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = 'model.safetensors', 'config.py', 'README.md'
#: Start of the name of a folder on the Hub: ``hf://user/name``.
HUB = 'hf://'


def is_published(name: str | Path) -> bool:
    """Return whether a name is that of such a folder."""
    folder = Path(name)
    return str(name).startswith(HUB) or all((folder / n).is_file() for n in (WEIGHTS_NAME, CONFIG_NAME))


def is_published_config(path: str | Path) -> bool:
    """Return whether a file is the config of such a folder, which is read as data and never run."""
    path = Path(path)
    return path.name == CONFIG_NAME and is_published(path.parent)


def resolve_published(name: str | Path) -> tuple[Path, Path]:
    """Return config and weights of a folder, downloaded if it is on the Hub; nothing in them is read.

    Raises:
        UserError: the download failed, or a file is missing.
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
    return folder / CONFIG_NAME, folder / WEIGHTS_NAME


def resolve_model(config: str | Path, checkpoint: str | Path | None) -> tuple[str | Path, str | Path]:
    """Return a model's config and checkpoint, of which a published folder needs only its name.

    Raises:
        UserError: a config without a checkpoint; see :func:`resolve_published`.
    """
    if checkpoint is not None:
        return config, checkpoint
    if is_published(config):
        return resolve_published(config)
    if str(config).endswith('.rejected'):
        raise UserError(f'{config}: fastervit export rejected this file, as it differs from its model')
    raise UserError(f'{config}: a config needs a checkpoint (exported files and published folders need none)')


@contextmanager
def one_line(config: str | Path) -> Iterator[None]:
    """Turn whatever the toolkits raise on the config of a published folder into one line; others pass.

    Such a config is somebody else's: a traceback through the toolkits helps nobody who got it.

    Raises:
        UserError: the block raised anything.
    """
    try:
        yield
    except (UserError, OSError, MemoryError):  # of this machine
        raise
    except Exception as error:
        is_of_machine = 'out of memory' in str(error).lower() or 'DataLoader worker' in str(error)
        if is_of_machine or not is_published_config(config):
            raise
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
        raise UserError(
            f'{config} does not work ({reason}): ask who published it, or predict with your own config'
        ) from error
