"""Training pictures: folders of images, decoded to squares in memory.

    FOLDER/**.jpg                          without classes
    FOLDER/LABEL/*.jpg                     with classes, for cgan
    FOLDER/train/..., FOLDER/test/...      either layout, by split
    FOLDER/trainA, trainB, testA, testB    two domains, for cyclegan

Shapes: N pictures, B of a batch, C channels, S x S pixels.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.core.datasets.folders import find_images, split_folders, visible_folders
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_dir
from dlkit.core.io.splits import SPLITS
from dlkit.core.io.walk import Ignored
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.core.vision.augment import GRAY_WEIGHTS
from dlkit.gan_sample.models.dcgan import largest_size

MIN_IMAGES = 10  # pictures of a training or an evaluation
MAX_AUTO_SIDE = 64  # of automatic sizes; --image-size may be larger
MAX_PROBED = 200  # pictures that determine size and color
MAX_BYTES = 8_000_000_000  # bytes of decoded pictures


@dataclass(frozen=True)
class ImageList:
    """The files of a split and their class indices, all 0 without classes."""

    paths: list[Path]
    labels: list[int]
    names: list[str]  # of the classes; empty without classes
    ledger: Ledger = field(default_factory=Ledger)


def list_pictures(
    data: Path, split: str, classes: bool = False, names: Sequence[str] = ()
) -> ImageList:
    """List the pictures of a split; without split folders, of the whole folder.

    With `classes`, the subfolders are the labels, numbered as in `names` or by their order. Raises
    DlkitError if there are no pictures or fewer than two classes.
    """
    folder = find_split_folder(data, split, classes)
    ledger, ignored = Ledger(split), Ignored()

    def pictures_below(place: Path) -> list[Path]:
        return [Path(path) for path in find_images(place, folder, ledger, ignored)]

    if not classes:
        paths = pictures_below(folder)
        ignored.report()
        if not paths:
            raise DlkitError("no pictures in this folder or its subfolders; give another", folder)
        return ImageList(paths, [0] * len(paths), [], ledger)
    found = {place.name: pictures_below(place) for place in visible_folders(folder)}
    found = {name: paths for name, paths in found.items() if paths}
    ignored.report()
    chosen = list(names) or list(found)
    if not found or (not names and len(found) < 2):
        raise DlkitError(
            "fewer than two class folders; sort the pictures as LABEL/*.jpg, two or more", folder
        )
    if unknown := sorted(found.keys() - set(chosen)):
        raise DlkitError(
            f"no class {unknown[0]!r} in the model; choose from {', '.join(chosen)}", folder
        )
    pairs = [(path, n) for n, name in enumerate(chosen) for path in found.get(name, [])]
    return ImageList([path for path, _ in pairs], [n for _, n in pairs], chosen, ledger)


def find_split_folder(data: Path, split: str, classes: bool = False) -> Path:
    """The folder of a split; the data folder itself if it has no split folders."""
    if not is_dir(data):
        raise DlkitError("no such folder", data)
    if split not in SPLITS:
        raise DlkitError(f"--split {split}: unknown; choose from {', '.join(SPLITS)}")
    found = split_folders(data, of_labels=classes)
    if not found:
        return data
    if split not in found:
        raise DlkitError(f"no split {split!r}; choose from {', '.join(sorted(found))}", data)
    return found[split]


@dataclass(frozen=True)
class Shape:
    """Size and channels that every picture is converted to: a center crop of S pixels a side."""

    image_size: int
    channels: int

    def read(self, path: Path | str) -> tuple[Tensor, bool]:
        """Pixels (C, S, S), uint8, and whether the picture was cropped."""
        picture = images.read(str(path), self.image_size, "crop")
        pixels = picture.pixels
        if self.channels == 1:
            pixels = to_gray(pixels)
        return pixels, picture.width != picture.height


def to_gray(pixels: Tensor) -> Tensor:
    """The luma (1, H, W) of an RGB picture."""
    weights = torch.tensor(GRAY_WEIGHTS).view(3, 1, 1)
    return (pixels * weights).sum(dim=0, keepdim=True).round().to(torch.uint8)


def choose_shape(paths: Sequence[Path], image_size: int | None, color: str) -> Shape:
    """The size and channels of the settings, or else those that fit the pictures."""
    sides, colors = [], []
    for path in paths[:: max(1, len(paths) // MAX_PROBED)]:
        try:
            pixels = images.read(str(path), MAX_AUTO_SIDE).pixels
            sides.append(min(images.size(path)))
        except DlkitError:
            continue  # skipped, and named, when all are decoded
        colors.append(bool((pixels != pixels[:1]).any()))
    if not sides:
        raise DlkitError("unreadable, and so are all others; give a folder of images", paths[0])
    size = image_size or largest_size(min(round(median(sides)), MAX_AUTO_SIDE))
    gray = color == "gray" or (color == "auto" and not any(colors))
    return Shape(size, 1 if gray else 3)


class SquareImages(Dataset[list[Tensor]]):
    """Decoded pictures and labels: batches of uint8 (B, C, S, S) and indices (B,).

    Unreadable pictures are skipped, counted by `ledger`. `length` is the number of samples of an
    epoch; None: one pass.
    """

    def __init__(self, listed: ImageList, shape: Shape) -> None:
        self.shape, self.names = shape, listed.names
        self.ledger = listed.ledger
        self.length: int | None = None
        size = shape.channels * shape.image_size**2
        if len(listed.paths) * size > MAX_BYTES:
            raise DlkitError(
                f"{len(listed.paths)} pictures of {shape.image_size} pixels do not fit into memory;"
                " give a smaller --image-size"
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
            self.ledger.skip("pictures", "unreadable picture", f"{path} ({error.reason_for(path)})")
            return None

    def report(self, data: Path, allowed: float, purpose: str = "train on") -> None:
        """Log used, skipped and cropped pictures.

        Raises DlkitError if more than the allowed share is skipped, or too few remain.
        """
        self.ledger.rename("images", "pictures")
        self.ledger.use("pictures", len(self.pixels))
        self.ledger.report()
        if self.cropped:
            log(f"pictures center-cropped, since they are not square: {self.cropped}")
        self.ledger.require("pictures", data)
        self.ledger.check(allowed, data)
        if len(self.pixels) < MIN_IMAGES:
            raise DlkitError(
                f"{len(self.pixels)} pictures are too few to {purpose}; give {MIN_IMAGES} or more"
            )

    def split_off(self, share: float, seed: int) -> tuple["SquareImages", "SquareImages"]:
        """Two data sets: a random share of the pictures, and the rest."""
        order = torch.randperm(len(self.pixels), generator=torch.Generator().manual_seed(seed))
        held_out = round(share * len(order))
        return self.subset(order[:held_out].sort()[0]), self.subset(order[held_out:].sort()[0])

    def subset(self, indices: Tensor) -> "SquareImages":
        chosen = SquareImages(ImageList([], [], self.names), self.shape)
        chosen.pixels, chosen.labels = self.pixels[indices], self.labels[indices]
        return chosen

    def __len__(self) -> int:
        return len(self.pixels) if self.length is None else self.length

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A whole batch, which the loader prefers to single samples; indices wrap around."""
        chosen = torch.tensor(indices) % len(self.pixels)
        return [self.pixels[chosen], self.labels[chosen]]


def from_uint8(pixels: Tensor) -> Tensor:
    """uint8 pixels as network inputs: floats from -1 to 1, channels last in memory."""
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def to_uint8(images: Tensor) -> Tensor:
    """Network outputs from -1 to 1 as uint8 pixels."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def identity_collate(batch: list[Tensor]) -> list[Tensor]:
    """The batch as `__getitems__` collated it."""
    return batch
