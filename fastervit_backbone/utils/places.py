"""Where the package's configs and pinned versions are: inside the wheel, or in the checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def _shipped(inside: str, beside: str) -> Path:
    """Return a file or folder of the wheel, else that of a checkout."""
    path = _PACKAGE / '.mim' / inside
    return path.resolve() if path.exists() else _PACKAGE.parent / beside


def configs_folder() -> Path:
    """Return the folder of our configs."""
    return _shipped('configs/fastervit', 'configs')


def requirements() -> Path:
    """Return requirements.txt, which names the tested versions."""
    return _shipped('requirements.txt', 'requirements.txt')


def shipped_configs() -> dict[str, Path]:
    """Return the configs that a run can use, by name: all but the bases, ``demo/cascade_shapes``."""
    folder = configs_folder()
    leaves = (path for path in sorted(folder.rglob('*.py')) if '_base_' not in path.parts)
    return {str(path.relative_to(folder).with_suffix('')): path for path in leaves}
