"""Where the package's configs and tools are: inside the wheel, or in the checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def data_folder(name: str) -> Path:
    """Return ``configs`` or ``tools``: inside the wheel, else beside the package in a checkout."""
    inside = _PACKAGE / '.mim' / {'configs': 'configs/fastervit', 'tools': 'tools'}[name]
    return inside.resolve() if inside.is_dir() else _PACKAGE.parent / name


def requirements() -> Path:
    """Return requirements.txt, which names the tested versions."""
    return data_folder('tools').parent / 'requirements.txt'


def shipped_configs() -> dict[str, Path]:
    """Return the configs that a run can use, by name: all but the bases, ``demo/cascade_shapes``."""
    folder = data_folder('configs')
    leaves = (path for path in sorted(folder.rglob('*.py')) if '_base_' not in path.parts)
    return {str(path.relative_to(folder).with_suffix('')): path for path in leaves}
