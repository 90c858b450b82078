"""Pictures side by side in one file, pixel by pixel as they are.

Shapes: C channels, S x S pixels.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.vision.images import MOST_PIXELS, SUFFIXES

GAP = 2  # pixels of white around a picture


class Sheet:
    """Rows of pictures of one size, on white; raises DlkitError where it would be too large."""

    def __init__(self, count: int, columns: int, side: int, channels: int) -> None:
        self.columns, self.side = columns, side
        self.cell = side + 2 * GAP
        width, height = columns * self.cell, -(-count // columns) * self.cell
        if width * height > MOST_PIXELS:
            raise DlkitError(
                f"{count} pictures in one file would be {width} x {height} pixels, over"
                f" {MOST_PIXELS / 1e6:.0f} million: write files with --separate FOLDER"
            )
        self.pixels = np.full((height, width, channels), 255, np.uint8)

    def put(self, index: int, picture: Tensor) -> None:
        """A uint8 picture (C, S, S) at its place, row by row."""
        row, column = divmod(index, self.columns)
        y, x = row * self.cell + GAP, column * self.cell + GAP
        self.pixels[y : y + self.side, x : x + self.side] = picture.permute(1, 2, 0).numpy()

    def image(self) -> Image.Image:
        return from_array(self.pixels)


def square(count: int) -> int:
    """The columns of a grid that is as wide as high."""
    return math.isqrt(max(count, 1) - 1) + 1


def as_image(picture: Tensor) -> Image.Image:
    """A uint8 picture (C, S, S), gray or in color."""
    return from_array(picture.permute(1, 2, 0).numpy())


def from_array(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def check_name(path: Path, kinds: Sequence[str] = tuple(SUFFIXES)) -> None:
    """Refuse a file name that says no kind of picture."""
    if path.suffix.lower() not in kinds:
        raise DlkitError(f"{path}: a picture's name ends in {', '.join(sorted(kinds))}")


def save_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int) -> None:
    """A GIF that begins again at its end."""
    with whole_file(path) as partial:
        frames[0].save(
            partial,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
        )
