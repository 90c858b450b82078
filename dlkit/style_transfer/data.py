"""Training images: random square crops of photographs and, for adain, of styles.

Shapes: N pictures, B of a batch, S x S pixels.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.io import image_files
from dlkit.core.ledger import Ledger
from dlkit.core.progress import track
from dlkit.core.vision import images

MAX_RATIO = 2  # shorter side of a stored picture, relative to the side of a crop


def list_images(sources: Iterable[str], what: str) -> list[str]:
    """The images in these files, folders and globs; raises DlkitError if there are none."""
    paths = list(image_files.files(sources))
    if not paths:
        raise DlkitError(f"no {what} found; give files, folders or globs of images")
    return paths


def read(path: str, side: int | None = None) -> Tensor:
    """Read a picture (1, 3, h, w) from 0 to 1, resized to this longest side."""
    try:
        return images.read(path, side).pixels[None] / 255
    except DlkitError as error:
        raise DlkitError(error.reason_for(path), path) from error


class SquareCrops(Dataset[Tensor]):
    """A random square crop, uint8 (3, S, S), of each picture, flipped with probability 1/2.

    Unreadable pictures are skipped, and the ledger counts them. `length` is the number of samples
    of an epoch, from random pictures; None: one of each. `paths` are the readable ones.
    """

    def __init__(
        self, paths: Sequence[str], size: int, ledger: Ledger, length: int | None = None
    ) -> None:
        self.size, self.length, self.ledger = size, length, ledger
        with ThreadPoolExecutor() as pool:
            decoded = track(pool.map(self.decode, paths), "reading", len(paths))
            kept = [pair for pair in zip(paths, decoded, strict=True) if pair[1] is not None]
        self.paths = [path for path, _ in kept]
        self.pictures = [picture for _, picture in kept if picture is not None]
        ledger.use("pictures", len(self.pictures))
        ledger.report()
        if not self.pictures:
            raise DlkitError("unreadable, and so are all others; give a folder of images", paths[0])

    def decode(self, path: str) -> Tensor | None:
        """Decode a picture, uint8 (3, h, w), no larger than crops need."""
        try:
            pixels = images.read(path).pixels
        except DlkitError as error:
            reason = error.reason_for(path)
            self.ledger.skip("pictures", "unreadable picture", f"{path} ({reason})")
            return None
        share = MAX_RATIO * self.size / min(pixels.shape[-2:])
        if share >= 1:
            return pixels
        return resize(pixels, [round(share * side) for side in pixels.shape[-2:]])

    def __len__(self) -> int:
        return self.length or len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        if self.length is not None:
            index = int(torch.randint(len(self.pictures), ()))
        return random_crop(self.pictures[index], self.size)


def random_crop(picture: Tensor, size: int) -> Tensor:
    """A crop, uint8 (3, S, S), of a picture (3, h, w), at a random position and scale.

    It covers at least `size` pixels a side; smaller pictures are enlarged.
    """
    height, width = picture.shape[-2:]
    largest = min(height, width)
    side = int(torch.randint(min(size, largest), largest + 1, ()))
    top, left = (int(torch.randint(whole - side + 1, ())) for whole in (height, width))
    part = picture[:, top : top + side, left : left + side]
    if torch.rand(()) < 0.5:
        part = part.flip(2)
    return resize(part, [size, size])


def center_crops(paths: Sequence[str], size: int, ledger: Ledger) -> Tensor:
    """The center crops, uint8 (N, 3, S, S), of the readable pictures; the ledger counts all."""
    squares = []
    for path in paths:
        try:
            squares.append(images.read(path, size, "crop").pixels)
        except DlkitError as error:
            reason = error.reason_for(path)
            ledger.skip("pictures", "unreadable picture", f"{path} ({reason})")
    ledger.use("pictures", len(squares))
    return torch.stack(squares) if squares else torch.zeros(0, 3, size, size, dtype=torch.uint8)


def resize(picture: Tensor, size: list[int]) -> Tensor:
    """Resize a picture, uint8 (3, h, w)."""
    if list(picture.shape[-2:]) == size:
        return picture.contiguous()
    smooth = F.interpolate(picture[None].float(), size=size, mode="bilinear", antialias=True)
    return smooth[0].round().to(torch.uint8)
