"""Matplotlib figures without pyplot: no global state, no window system, nothing to close."""

import io


def new_figure(size: tuple[float, float], rows: int = 1, columns: int = 1, **options: object) -> tuple:
    """Create a figure with a grid of axes.

    Args:
        size: (width, height) in inches.
        rows: number of rows of axes.
        columns: number of columns of axes.
        **options: options of ``Figure.subplots``, such as ``sharey`` and ``squeeze``.

    Returns:
        the figure and its axes: one Axes for a grid of one, else an array of them, as of ``pyplot.subplots``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout='constrained')
    return figure, figure.subplots(rows, columns, **options)


def to_png(figure: object, dpi: int = 100) -> bytes:
    """Render a figure; returns the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    return buffer.getvalue()
