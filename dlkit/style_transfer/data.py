"""Pictures to learn from: photographs, and for adain the styles, as random squares.

Shapes: N pictures, B of a batch, S x S pixels.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log, track
from dlkit.core.vision import images

REACH = 2  # times the square's side: the most of a picture's shorter side that a square shows


def found(sources: Iterable[str], what: str) -> list[str]:
    """The pictures in these files, folders and globs; a DlkitError where there is none."""
    paths = list(images.files(sources))
    if not paths:
        raise DlkitError(f"no {what}: none were given")
    return paths


def read(path: str, side: int | None = None) -> Tensor:
    """A picture (1, 3, h, w) from 0 to 1, of that longest side; its name stands in the error."""
    try:
        return images.read(path, side).pixels[None] / 255
    except DlkitError as error:
        raise DlkitError(f"{path}: {error}") from error


class Squares(Dataset[Tensor]):
    """A random square, uint8 (3, S, S), of each picture, mirrored half of the time.

    What cannot be read is left out, with a notice. `length` is how many an epoch has, of pictures
    drawn at random; None: one of each.
    """

    def __init__(self, paths: Sequence[str], size: int, length: int | None = None) -> None:
        self.size, self.length = size, length
        with ThreadPoolExecutor() as pool:
            decoded = track(pool.map(self.decoded, paths), "reading", len(paths))
            self.pictures = [picture for picture in decoded if picture is not None]
        if not self.pictures:
            raise DlkitError(f"{paths[0]}: cannot be read, and neither can the others")

    def decoded(self, path: str) -> Tensor | None:
        """The picture uint8 (3, h, w), no larger than squares are cut from."""
        try:
            pixels = images.read(path).pixels
        except DlkitError as error:
            log(f"left out {path}: {error}")
            return None
        share = REACH * self.size / min(pixels.shape[-2:])
        if share >= 1:
            return pixels
        return resized(pixels, [round(share * side) for side in pixels.shape[-2:]])

    def __len__(self) -> int:
        return self.length or len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        if self.length is not None:
            index = int(torch.randint(len(self.pictures), ()))
        return random_square(self.pictures[index], self.size)


def random_square(picture: Tensor, size: int) -> Tensor:
    """A part, uint8 (3, S, S), of a picture (3, h, w), at a random place and scale.

    It shows `size` pixels a side or more; smaller pictures are enlarged.
    """
    height, width = picture.shape[-2:]
    largest = min(height, width)
    side = int(torch.randint(min(size, largest), largest + 1, ()))
    top, left = (int(torch.randint(whole - side + 1, ())) for whole in (height, width))
    part = picture[:, top : top + side, left : left + side]
    if torch.rand(()) < 0.5:
        part = part.flip(2)
    return resized(part, [size, size])


def middle_squares(paths: Sequence[str], size: int) -> Tensor:
    """The middle squares, uint8 (N, 3, S, S), of those pictures that can be read."""
    squares = []
    for path in paths:
        try:
            squares.append(images.read(path, size, "crop").pixels)
        except DlkitError as error:
            log(f"left out {path}: {error}")
    return torch.stack(squares) if squares else torch.zeros(0, 3, size, size, dtype=torch.uint8)


def resized(picture: Tensor, size: list[int]) -> Tensor:
    """A picture uint8 (3, h, w) at another size."""
    if list(picture.shape[-2:]) == size:
        return picture.contiguous()
    smooth = F.interpolate(picture[None].float(), size=size, mode="bilinear", antialias=True)
    return smooth[0].round().to(torch.uint8)
