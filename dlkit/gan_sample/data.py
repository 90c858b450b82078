"""Pictures to learn from: folders of them, as square tensors in memory.

    FOLDER/**.jpg                          without classes
    FOLDER/LABEL/*.jpg                     with classes, for cgan
    FOLDER/train/..., FOLDER/test/...      either of the two, by split
    FOLDER/trainA, trainB, testA, testB    two domains, for cyclegan

Shapes: N pictures, B of a batch, C channels, S x S pixels.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.core.vision.augment import GRAY_WEIGHTS
from dlkit.gan_sample.models.dcgan import possible_size

SPLITS = {"train": ["train", "training"], "val": ["val", "valid", "validation"], "test": ["test"]}
FEWEST = 10  # pictures to learn from
LARGEST_SIDE = 64  # chosen by itself; more only where --image-size asks for it
LOOKED_AT = 200  # pictures from which size and color are guessed
MOST_IN_MEMORY = 8_000_000_000  # bytes of decoded pictures


@dataclass(frozen=True)
class Listed:
    """The files of one split and the indices of their labels, which are 0 without classes."""

    paths: list[Path]
    labels: list[int]
    names: list[str]  # of the classes; none where the folder has none


def list_pictures(
    data: Path, split: str, classes: bool = False, names: Sequence[str] = ()
) -> Listed:
    """The pictures of a split; all of a folder that has no splits.

    With `classes` each lies in a folder that is its label, whose number is its place in `names`, or
    among the folders in their order. Raises DlkitError where there are no pictures or classes.
    """
    folder = folder_of(data, split)
    if not classes:
        paths = sorted(path for path in folder.rglob("*") if images.is_image(path))
        if not paths:
            raise DlkitError(f"{folder}: no pictures in this folder or below")
        return Listed(paths, [0] * len(paths), [])
    found = {
        place.name: sorted(path for path in place.rglob("*") if images.is_image(path))
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }
    found = {name: paths for name, paths in found.items() if paths}
    chosen = list(names) or list(found)
    if not found or (not names and len(found) < 2):
        raise DlkitError(f"{folder}: classes are folders of pictures (LABEL/*.jpg), two or more")
    if unknown := sorted(found.keys() - set(chosen)):
        raise DlkitError(f"{folder}: the model has no class {unknown[0]!r}")
    pairs = [(path, n) for n, name in enumerate(chosen) for path in found.get(name, [])]
    return Listed([path for path, _ in pairs], [n for _, n in pairs], chosen)


def folder_of(data: Path, split: str) -> Path:
    """Where the pictures of a split lie: the folder itself where it has no splits."""
    if not data.is_dir():
        raise DlkitError(f"{data}: no such folder")
    if split not in SPLITS:
        raise DlkitError(f"no split is called {split!r}: there is train, val and test")
    there = {s: data / n for s, names in SPLITS.items() for n in names if (data / n).is_dir()}
    if "train" not in there and split not in there:
        return data
    if split not in there:
        raise DlkitError(f"{data}: no split {split!r}; there is {', '.join(sorted(there))}")
    return there[split]


@dataclass(frozen=True)
class Shape:
    """What every picture becomes: its middle square, S pixels a side, of C channels."""

    image_size: int
    channels: int

    def read(self, path: Path | str) -> tuple[Tensor, bool]:
        """Pixels (C, S, S), uint8, and whether a part was cut off; DlkitError if unreadable."""
        picture = images.read(str(path), self.image_size, "crop")
        pixels = picture.pixels
        if self.channels == 1:
            pixels = gray(pixels)
        return pixels, picture.width != picture.height


def gray(pixels: Tensor) -> Tensor:
    """The luma (1, H, W) of an RGB picture."""
    weights = torch.tensor(GRAY_WEIGHTS).view(3, 1, 1)
    return (pixels * weights).sum(dim=0, keepdim=True).round().to(torch.uint8)


def shape_of(paths: Sequence[Path], image_size: int | None, color: str) -> Shape:
    """What suits the pictures, where the settings leave it open."""
    sides, colors = [], []
    for path in paths[:: max(1, len(paths) // LOOKED_AT)]:
        try:
            pixels = images.read(str(path), LARGEST_SIDE).pixels
            sides.append(min(images.size(path)))
        except DlkitError:
            continue  # skipped, and named, when all are decoded
        colors.append(bool((pixels != pixels[:1]).any()))
    if not sides:
        raise DlkitError(f"none of the pictures can be read, such as {paths[0]}")
    size = image_size or possible_size(min(round(median(sides)), LARGEST_SIDE))
    gray = color == "gray" or (color == "auto" and not any(colors))
    return Shape(size, 1 if gray else 3)


class Pictures(Dataset[list[Tensor]]):
    """Decoded pictures and labels: batches of uint8 (B, C, S, S) and indices (B,).

    What cannot be read is skipped and named. `passes` is how often an epoch sees each picture; it
    need not be whole.
    """

    def __init__(self, listed: Listed, shape: Shape) -> None:
        self.shape, self.names = shape, listed.names
        self.skipped = Skipped()
        self.length: int | None = None
        size = shape.channels * shape.image_size**2
        if len(listed.paths) * size > MOST_IN_MEMORY:
            raise DlkitError(
                f"{len(listed.paths)} pictures of {shape.image_size} pixels do not fit into memory:"
                " take a smaller --image-size"
            )
        kept = torch.empty(len(listed.paths), shape.channels, *2 * [shape.image_size]).byte()
        labels: list[int] = []
        self.cropped = 0
        with ThreadPoolExecutor() as pool:
            decoded = track(pool.map(self.read, listed.paths), "reading", len(listed.paths))
            for label, entry in zip(listed.labels, decoded, strict=True):
                if entry is not None:
                    kept[len(labels)] = entry[0]
                    labels.append(label)
                    self.cropped += entry[1]
        self.pixels, self.labels = kept[: len(labels)], torch.tensor(labels, dtype=torch.long)

    def read(self, path: Path) -> tuple[Tensor, bool] | None:
        try:
            return self.shape.read(path)
        except DlkitError as error:
            self.skipped.add("unreadable picture", f"{path} ({error})")
            return None

    def report(self, purpose: str = "learn from") -> None:
        """Say what was skipped and what was cut; raise DlkitError where too little is left."""
        self.skipped.report()
        if self.cropped:
            log(f"{self.cropped} pictures are not square: their middle is used")
        if len(self.pixels) < FEWEST:
            raise DlkitError(
                f"{len(self.pixels)} pictures are too few to {purpose}: give {FEWEST} or more"
            )

    def divided(self, share: float, seed: int) -> tuple["Pictures", "Pictures"]:
        """A share of the pictures, chosen by `seed`, and the rest."""
        order = torch.randperm(len(self.pixels), generator=torch.Generator().manual_seed(seed))
        held_out = round(share * len(order))
        return self.part(order[:held_out].sort()[0]), self.part(order[held_out:].sort()[0])

    def part(self, indices: Tensor) -> "Pictures":
        made = Pictures(Listed([], [], self.names), self.shape)
        made.pixels, made.labels = self.pixels[indices], self.labels[indices]
        return made

    def __len__(self) -> int:
        return len(self.pixels) if self.length is None else self.length

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A whole batch at once; the loader asks for this where it can.

        With more indices than pictures, they begin again.
        """
        chosen = torch.tensor(indices) % len(self.pixels)
        return [self.pixels[chosen], self.labels[chosen]]


def from_bytes(pixels: Tensor) -> Tensor:
    """Pixels from 0 to 255 as the networks see them, from -1 to 1, channels last in memory."""
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def to_bytes(made: Tensor) -> Tensor:
    """Images from -1 to 1 as pixels from 0 to 255, uint8."""
    return ((made.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def as_it_is(batch: list[Tensor]) -> list[Tensor]:
    """A batch that the data set has put together already."""
    return batch
