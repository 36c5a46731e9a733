"""mmpretrain beside a transformers that is newer than it."""

from importlib import import_module
from importlib.metadata import version


def leave_out_multimodal() -> None:
    """Let mmpretrain import without its multimodal models where transformers is not the version 4 they need.

    Their import would fail, and with it that of all models of mmpretrain and mmseg.
    """
    try:
        if int(version('transformers').split('.')[0]) > 4:
            import_module('mmpretrain.utils.dependency').WITH_MULTIMODAL = False  # type: ignore[attr-defined]
    except Exception:
        return  # one of them is not installed, or mmpretrain does not import: who needs it gets its own error
