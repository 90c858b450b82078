"""Image files: grids of pictures at their own size, and single ones.

Shapes: C channels, S x S pixels.
"""

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.io.image_files import WRITABLE
from dlkit.core.vision import images
from dlkit.core.vision.drawing import text_size
from dlkit.core.vision.images import MAX_PIXELS

GAP = 2  # white pixels around a picture


class ImageGrid:
    """A grid of pictures of one size, on white; raises DlkitError if it would be too large.

    Each pixel is repeated `scale` times. `names` are those of the columns, written above them.
    """

    def __init__(
        self,
        count: int,
        columns: int,
        side: int,
        channels: int,
        scale: int = 1,
        names: Sequence[str] = (),
    ) -> None:
        self.columns, self.side, self.scale, self.names = columns, side * scale, scale, names
        self.cell = self.side + 2 * GAP
        width, height = columns * self.cell, -(-count // columns) * self.cell
        if width * height > MAX_PIXELS:
            raise DlkitError(
                f"a grid of {count} pictures would have {width} x {height} pixels, over"
                f" {MAX_PIXELS / 1e6:.0f} million; write single files with --separate FOLDER"
            )
        self.pixels = np.full((height, width, channels), 255, np.uint8)

    def place(self, index: int, picture: Tensor) -> None:
        """Put a uint8 picture (C, S, S) into cell `index`, counted row by row; gray fits RGB."""
        row, column = divmod(index, self.columns)
        y, x = row * self.cell + GAP, column * self.cell + GAP
        pixels = enlarge(picture, self.scale).permute(1, 2, 0).numpy()
        self.pixels[y : y + self.side, x : x + self.side] = pixels

    def image(self) -> Image.Image:
        grid = array_to_pillow(self.pixels)
        return write_names(grid, self.names, self.cell) if self.names else grid


def write_names(grid: Image.Image, names: Sequence[str], cell: int) -> Image.Image:
    """The grid below the names of its columns of `cell` pixels; as it is if they do not fit."""
    size = text_size(cell * 4)
    font = ImageFont.load_default(size)
    if any(font.getlength(name) > cell for name in names):
        return grid
    line = round(1.4 * size)
    sheet = Image.new(grid.mode, (grid.width, grid.height + line), "white")
    sheet.paste(grid, (0, line))
    canvas = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        canvas.text(((column + 0.5) * cell, line / 2), name, fill="black", font=font, anchor="mm")
    return sheet


def enlarge(picture: Tensor, scale: int) -> Tensor:
    """The picture (C, S, S) with each pixel repeated in both directions."""
    return picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2) if scale > 1 else picture


def square_columns(count: int) -> int:
    """The number of columns of a square grid."""
    return math.isqrt(max(count, 1) - 1) + 1


def to_pillow(picture: Tensor, scale: int = 1) -> Image.Image:
    """Convert a uint8 picture (C, S, S), gray or color, each pixel repeated `scale` times."""
    return array_to_pillow(enlarge(picture, scale).permute(1, 2, 0).numpy())


def array_to_pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def check_image_suffix(path: Path) -> None:
    """Raise DlkitError unless the file name has an image's suffix."""
    if path.suffix.lower() not in WRITABLE:
        raise DlkitError(
            f"not the name of an image; choose from {', '.join(sorted(WRITABLE))}", path
        )


def save_grid(
    pictures: Sequence[Tensor], path: Path, columns: int = 0, captions: Sequence[str] = ()
) -> None:
    """Write an RGB grid of uint8 pictures (C, S, S), by default square.

    `captions` are written to the left of the rows, from the first one on when they are used up.
    """
    columns = columns or square_columns(len(pictures))
    grid = ImageGrid(len(pictures), columns, pictures[0].shape[-1], 3)
    for index, picture in enumerate(pictures):
        grid.place(index, picture)
    image = grid.image()
    images.save(add_captions(image, grid.cell, captions) if captions else image, path)


def add_captions(grid: Image.Image, height: int, captions: Sequence[str]) -> Image.Image:
    """The grid with a strip of captions to the left of its rows of this height."""
    font = ImageFont.load_default(13)
    width = round(max(font.getlength(caption) for caption in captions)) + 10
    sheet = Image.new("RGB", (width + grid.width, grid.height), "white")
    sheet.paste(grid, (width, 0))
    canvas = ImageDraw.Draw(sheet)
    for caption, top in zip(cycle(captions), range(0, grid.height, height), strict=False):
        canvas.text((5, top + height / 2), caption, fill="black", font=font, anchor="lm")
    return sheet
