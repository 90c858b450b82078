"""Contact sheets of paintings: rows of photographs by columns of styles."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.vision import images

CELL = 256  # side of a cell in pixels
BLANK = Image.new("RGB", (CELL, CELL), "white")


class Cell(NamedTuple):
    """The path of an image, which may be missing, and its caption."""

    path: str
    caption: str = ""


def contact_sheet(
    styles: Sequence[Cell], rows: Sequence[tuple[Cell, Sequence[str]]]
) -> Image.Image:
    """A header of styles, and for each row its photograph and paintings, one in each style."""
    cells = [Cell(""), *styles]
    for photo, paintings in rows:
        cells += [photo, *map(Cell, paintings)]
    pictures = [load_cell(cell.path) for cell in cells]
    return images.grid(pictures, 1 + len(styles), CELL, [cell.caption for cell in cells])


def save_sheet(
    styles: Sequence[Cell], rows: Sequence[tuple[Cell, Sequence[str]]], path: Path
) -> None:
    """Save a contact sheet."""
    images.save(contact_sheet(styles, rows), path)


def load_cell(path: str) -> Image.Image:
    """Read an image; white if there is none, as for a style by name."""
    try:
        return images.as_pillow(images.read(path, CELL))
    except DlkitError:
        return BLANK
