"""Image files: grids of pictures at their own size, and single ones.

Shapes: C channels, S x S pixels.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.io.image_files import SUFFIXES
from dlkit.core.vision import images
from dlkit.core.vision.images import MAX_PIXELS

GAP = 2  # white pixels around a picture


class ImageGrid:
    """A grid of pictures of one size, on white; raises DlkitError if it would be too large."""

    def __init__(self, count: int, columns: int, side: int, channels: int) -> None:
        self.columns, self.side = columns, side
        self.cell = side + 2 * GAP
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
        self.pixels[y : y + self.side, x : x + self.side] = picture.permute(1, 2, 0).numpy()

    def image(self) -> Image.Image:
        return array_to_pillow(self.pixels)


def square_columns(count: int) -> int:
    """The number of columns of a square grid."""
    return math.isqrt(max(count, 1) - 1) + 1


def to_pillow(picture: Tensor) -> Image.Image:
    """Convert a uint8 picture (C, S, S), gray or color."""
    return array_to_pillow(picture.permute(1, 2, 0).numpy())


def array_to_pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def check_image_suffix(path: Path) -> None:
    """Raise DlkitError unless the file name has an image's suffix."""
    if path.suffix.lower() not in SUFFIXES:
        raise DlkitError(
            f"not the name of an image; choose from {', '.join(sorted(SUFFIXES))}", path
        )


def save_grid(pictures: Sequence[Tensor], path: Path, columns: int = 0) -> None:
    """Write an RGB grid of uint8 pictures (C, S, S), by default square."""
    columns = columns or square_columns(len(pictures))
    grid = ImageGrid(len(pictures), columns, pictures[0].shape[-1], 3)
    for index, picture in enumerate(pictures):
        grid.place(index, picture)
    images.save(grid.image(), path)
