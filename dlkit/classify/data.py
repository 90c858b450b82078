"""Images as batches: how they become square tensors, and where decoded ones are kept.

Shapes: N images, B of a batch, C channels, S x S pixels, L labels.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Annotated, Any, TypedDict, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.layouts import ImageSample
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.core.progress import track
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.core.vision.augment import GRAY_WEIGHTS
from dlkit.core.vision.images import Fit, Picture

MAX_BYTES_IN_MEMORY = 4_000_000_000  # of decoded images
MAX_DEFAULT_SIZE = 224  # pixels; --image-size may be larger
PROBED_IMAGES = 200  # that the image size and the number of channels are taken from


class PreprocessingSettings(TypedDict):
    """The fields of a Preprocessing, in a header."""

    image_size: schema.Side
    fit: Fit
    channels: Annotated[int, schema.Within(1, 3)]
    mean: list[float]
    std: list[schema.Deviation]


class ImageClassifierSettings(TypedDict):
    """The settings in the header of an image classifier."""

    network: dict[str, Any]  # the keyword arguments of `model.build`
    preprocessing: PreprocessingSettings
    loss: str


def image_classifier_settings(header: Header) -> ImageClassifierSettings:
    """The settings of an image classifier's header."""
    settings: ImageClassifierSettings = schema.fit(ImageClassifierSettings, header.settings)
    return settings


@dataclass(frozen=True)
class Preprocessing:
    """Turns an image into the network's input; `mean` and `std` are of values from 0 to 1."""

    image_size: int
    fit: Fit
    channels: int
    mean: list[float]
    std: list[float]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise DlkitError("mean and std of its images do not have a number for each channel")

    def to_settings(self) -> PreprocessingSettings:
        """Return the fields, for a checkpoint's header."""
        return cast(PreprocessingSettings, asdict(self))

    def read(self, source: str) -> Tensor:
        """Read an image as uint8 (C, S, S). Raises DlkitError if it is unreadable."""
        return self.picture(source).pixels

    def picture(self, source: str) -> Picture:
        """Read an image together with its own width and height."""
        return self.match_channels(images.read(source, self.image_size, self.fit))

    def match_channels(self, picture: Picture) -> Picture:
        """Convert the picture to the number of channels of the network."""
        return picture if self.channels == 3 else replace(picture, pixels=to_gray(picture.pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalize images (B, C, S, S) of values from 0 to 255 to mean 0 and deviation 1."""
        mean = 255 * torch.tensor(self.mean, device=pixels.device).view(1, -1, 1, 1)
        std = 255 * torch.tensor(self.std, device=pixels.device).view(1, -1, 1, 1)
        normal = (pixels.float() - mean) / std
        return normal.contiguous(memory_format=torch.channels_last)


def to_gray(pixels: Tensor) -> Tensor:
    """Return the luma (1, S, S) of an RGB image."""
    weights = torch.tensor(GRAY_WEIGHTS).view(3, 1, 1)
    return (pixels * weights).sum(dim=0, keepdim=True).round().to(torch.uint8)


def choose_preprocessing(
    samples: Sequence[ImageSample], config: ClassifyTrainConfig
) -> Preprocessing:
    """Choose size and channels from the settings and the images; mean and std are placeholders."""
    sides, colors = [], []
    for sample in samples[:: max(1, len(samples) // PROBED_IMAGES)]:
        try:
            pixels = images.read(str(sample.path), MAX_DEFAULT_SIZE, "inside").pixels
            sides.append(min(images.size(sample.path)))
        except DlkitError:
            continue  # reported as skipped when all are decoded
        colors.append(bool((pixels != pixels[:1]).any()))
    if not sides:
        raise DlkitError("none of the training images is readable", config.data)
    size = config.image_size or min(round(median(sides)), MAX_DEFAULT_SIZE)
    gray = config.color == "gray" or (config.color == "auto" and not any(colors))
    channels = 1 if gray else 3
    return Preprocessing(size, "crop", channels, [0.5] * channels, [0.25] * channels)


def make_targets(samples: Sequence[ImageSample], num_labels: int, multi_label: bool) -> Tensor:
    """Return label indices (N,), or multi-hot targets (N, L) for multi-label data."""
    if not multi_label:
        return torch.tensor([sample.labels[0] for sample in samples])
    targets = torch.zeros(len(samples), num_labels)
    for row, sample in zip(targets, samples, strict=True):
        row[list(sample.labels)] = 1.0
    return targets


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images of one split, in batches of uint8 (B, C, S, S) with their targets.

    Targets are label indices (B,), or multi-hot (B, L) for multi-label data. Unreadable images are
    skipped, counted by the ledger. Decoded images are kept in memory if they fit.
    """

    def __init__(
        self,
        samples: Sequence[ImageSample],
        preprocessing: Preprocessing,
        num_labels: int,
        multi_label: bool,
        ledger: Ledger,
    ) -> None:
        self.preprocessing, self.ledger = preprocessing, ledger
        self.samples = list(samples)
        self.kept: Tensor | None = None
        self.mirrored: Tensor | None = None  # booleans (N,): the images to mirror
        size = preprocessing.channels * preprocessing.image_size**2
        if samples and len(samples) * size <= MAX_BYTES_IN_MEMORY:
            self.decode()
        self.targets = make_targets(self.samples, num_labels, multi_label)

    def decode(self) -> None:
        """Decode all images into memory."""
        side = self.preprocessing.image_size
        shape = (len(self.samples), self.preprocessing.channels, side, side)
        kept = torch.zeros(shape, dtype=torch.uint8)
        good: list[ImageSample] = []
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(self.read, self.samples)
            for index, pixels in enumerate(track(decoded, "reading", len(self.samples))):
                if pixels is not None:
                    kept[len(good)] = pixels
                    good.append(self.samples[index])
        self.kept, self.samples = kept[: len(good)], good

    def read(self, sample: ImageSample) -> Tensor | None:
        """Read the image of a sample; skip it and return None if it is unreadable."""
        try:
            return self.preprocessing.read(str(sample.path))
        except DlkitError as error:
            self.ledger.drop("images", "unreadable image", f"{sample.path} ({error})")
            return None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """Return a whole batch; torch's DataLoader calls this instead of `__getitem__`."""
        if self.kept is not None:
            return [self.mirror(self.kept[indices], indices), self.targets[indices]]
        pixels = [self.read(self.samples[index]) for index in indices]
        good = [n for n, image in enumerate(pixels) if image is not None]
        if not good:
            raise DlkitError("none of the training images of a batch is readable")
        chosen = torch.stack([pixels[n] for n in good])  # type: ignore[misc]
        places = [indices[n] for n in good]
        return [self.mirror(chosen, places), self.targets[places]]

    def mirror(self, pixels: Tensor, indices: list[int]) -> Tensor:
        """Mirror those of the images (B, C, S, S) with these indices that are to be mirrored."""
        if self.mirrored is None:
            return pixels
        return torch.where(self.mirrored[indices, None, None, None], pixels.flip(-1), pixels)

    def statistics(self) -> tuple[list[float], list[float]]:
        """Return the mean and standard deviation of each channel, of values from 0 to 1."""
        sums, squares = torch.zeros(2, self.preprocessing.channels, dtype=torch.double)
        count = 0
        for pixels in self.sample().split(256):
            values = pixels.double() / 255
            count += values[:, 0].numel()
            sums += values.sum(dim=(0, 2, 3))
            squares += values.square().sum(dim=(0, 2, 3))
        mean = sums / count
        std = ((squares - count * mean**2) / (count - 1)).sqrt()
        return [round(float(m), 4) for m in mean], [max(round(float(s), 4), 0.01) for s in std]

    def sample(self, most: int = 5000) -> Tensor:
        """Return about `most` images, uint8 (N, C, S, S), evenly from all of them."""
        step = max(1, len(self) // most)
        return self.__getitems__(list(range(0, len(self), step)))[0]

    def batches(self, size: int, indices: Sequence[int]) -> Iterator[list[Tensor]]:
        """Yield the images with these indices, in order."""
        for start in range(0, len(indices), size):
            yield self.__getitems__(list(indices[start : start + size]))
