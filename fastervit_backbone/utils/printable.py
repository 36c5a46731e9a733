"""Text from files and file names, made safe for a terminal."""


def printable(text: str) -> str:
    """Replace what would control a terminal, but for line breaks and tabs, by its escape."""
    return ''.join(c if c.isprintable() or c in '\n\t' else repr(c)[1:-1] for c in text)
