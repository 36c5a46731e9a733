"""Pictures that people look at first."""

from pathlib import Path

from PIL import Image


def write_overview(folder: str | Path, columns: int = 2, rows: int = 4, width: int = 1400) -> Path | None:
    """Put the first pictures of a folder on one sheet, ``overview.png`` beside them.

    Args:
        folder: with .png or .jpg pictures.
        columns: pictures side by side.
        rows: pictures below each other, at most.
        width: pixels of the sheet.

    Returns:
        the sheet, or None where there are no pictures.
    """
    folder = Path(folder)
    sheet_path = folder / 'overview.png'
    paths = sorted(p for p in folder.glob('*') if p.suffix in ('.png', '.jpg') and p != sheet_path)[: columns * rows]
    if not paths:
        return None
    cell = width // columns
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(picture.convert('RGB').resize((cell, round(picture.height * cell / picture.width)), Image.Resampling.LANCZOS))
    lines = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    sheet = Image.new('RGB', (width, sum(max(p.height for p in line) for line in lines)), 'white')
    top = 0
    for line in lines:
        for column, picture in enumerate(line):
            sheet.paste(picture, (column * cell, top))
        top += max(p.height for p in line)
    sheet.save(sheet_path)
    return sheet_path
