"""The text of a config."""

from mmengine.config import Config


def as_python(config: Config) -> str:
    """Format a config as Python whose values survive being read again.

    mmengine replaces ``{{...}}`` in the text of a config, in comments and strings too, before it runs it: the
    name of a class or folder could so become code. Here such a name is written with an escape.
    """
    return escape(config.pretty_text)


def escape(text: str) -> str:
    r"""Write ``{{`` in strings and comments of a Python text as ``{\x7b``, which Python reads as the same."""
    return text.replace('{{', r'{\x7b')
