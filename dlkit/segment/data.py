"""Training batches: images changed at random, with their masks.

Shapes: B images, H x W pixels, C classes, N objects.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.segment.augment import moved
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.layouts import Sample
from dlkit.segment.masks import IGNORED, Object

MOST_IN_MEMORY = 4_000_000_000  # bytes of decoded training images and masks that are kept
MOST_OBJECTS = 254  # in an image; the smallest of more are left out


@dataclass(frozen=True)
class Example:
    """An image with its truth, as it is kept in memory.

    `image` uint8 (3, h, w), or (4, h, w) with the border map; `indices` uint8 (1, h, w), the mask,
    or (2, h, w) with the numbers of objects from 1 on; `labels` (N,) of these objects.
    """

    image: Tensor
    indices: Tensor
    labels: Tensor


class Pictures(Dataset[Example | None]):
    """Training pictures, augmented: whole images, or crops of one size.

    With `objects` the indices have the numbers of objects, which `--task instance` learns from.
    """

    def __init__(
        self, samples: Sequence[Sample], config: SegmentTrainConfig, objects: bool
    ) -> None:
        self.samples, self.config, self.objects = list(samples), config, objects
        self.kept: list[Example | None] = []
        size = sum(s.width * s.height * shrunk(s, config) ** 2 for s in self.samples)
        if size * (4 + bool(config.border_weight) + objects) <= MOST_IN_MEMORY:
            with ThreadPoolExecutor() as pool:
                done = pool.map(self.decode, self.samples)
                self.kept = list(track(done, "reading", len(self.samples)))

    def decode(self, sample: Sample) -> Example | None:
        """The image at the size the network sees; None if it is damaged."""
        side = self.config.image_size
        try:
            pixels = images.read(str(sample.path), side).pixels
            mask = torch.from_numpy(sample.truth.mask())[None]
            layers, labels = [resized(mask, pixels)], torch.zeros(0, dtype=torch.long)
            if self.objects or self.config.border_weight:
                numbers, labels = numbered(sample.truth.objects(), mask.shape[1:])
                layers.append(resized(numbers[None], pixels))
            if self.config.border_weight:
                borders = border_map(layers[1][0].numpy(), self.config.border_sigma)
                pixels = torch.cat([pixels, torch.from_numpy(borders)[None]])
        except DlkitError as error:
            log(f"left out {sample.path}: {error}")
            return None
        return Example(pixels, torch.cat(layers if self.objects else layers[:1]), labels)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Example | None:
        example = self.kept[index] if self.kept else self.decode(self.samples[index])
        if example is None:
            return None
        height, width = example.image.shape[-2:]
        size = (self.config.crop or height, self.config.crop or width)
        image, indices = moved(example.image, example.indices, size, self.config)
        return Example(image, indices, example.labels)


def shrunk(sample: Sample, config: SegmentTrainConfig) -> float:
    """How much smaller the network sees an image."""
    return (config.image_size or max(sample.width, sample.height)) / max(
        sample.width, sample.height
    )


def resized(indices: Tensor, like: Tensor) -> Tensor:
    """Indices (1, h, w) at the size of an image (3, H, W), each taken from the nearest pixel."""
    if indices.shape[-2:] == like.shape[-2:]:
        return indices
    return F.interpolate(indices[None], size=like.shape[-2:], mode="nearest-exact")[0]


def numbered(objects: Sequence[Object], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The numbers (h, w) of the objects, from 1 on, and their labels (N,); crowds are left out.

    Where objects overlap, the smaller is in front.
    """
    chosen = sorted((o for o in objects if not o.crowd), key=lambda o: -o.area)[:MOST_OBJECTS]
    numbers = np.zeros(tuple(size), np.uint8)
    for number, found in enumerate(chosen, 1):
        numbers[found.mask] = number
    return torch.from_numpy(numbers), torch.tensor([o.label for o in chosen], dtype=torch.long)


def border_map(numbers: np.ndarray, sigma: float) -> np.ndarray:
    """255 exp(-(d1 + d2)^2 / (2 sigma^2)) on the background between objects (h, w), uint8.

    d1 and d2 are the distances, from pixel to pixel, to the nearest and the second nearest object
    (Ronneberger et al. 2015, equation 2); objects have numbers from 1 on in `numbers` (h, w).
    """
    reach = math.ceil(4 * sigma)  # further away it rounds to nothing
    nearest = np.full((2, *numbers.shape), np.inf)
    for number in range(1, int(numbers.max()) + 1):
        rows, columns = np.nonzero(numbers == number)
        if not len(rows):
            continue
        around = np.s_[
            max(0, rows.min() - reach) : rows.max() + reach + 1,
            max(0, columns.min() - reach) : columns.max() + reach + 1,
        ]
        distance = distances(numbers[around] == number, reach)
        first, second = nearest[0][around], nearest[1][around]
        second[:] = np.minimum(second, np.maximum(first, distance))
        first[:] = np.minimum(first, distance)
    weights = np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2)) * (numbers == 0)
    return np.round(255 * weights).astype(np.uint8)


def distances(inside: np.ndarray, reach: int) -> np.ndarray:
    """The distance (h, w) of each pixel to the nearest one inside; inf where it is over `reach`.

    First within columns, then across them: squares of distances add up.
    """
    squares = np.where(inside, 0.0, np.inf)
    for axis in (0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(squares, padding, constant_values=np.inf)
        side = squares.shape[axis]
        for step in range(-reach, reach + 1):
            window = [slice(None), slice(None)]
            window[axis] = slice(reach + step, reach + step + side)
            squares = np.minimum(squares, padded[tuple(window)] + step**2)
    return np.sqrt(squares)


def collate(examples: Sequence[Example | None]) -> list[Tensor]:
    """images (B, 3 or 4, H, W), indices (B, 1 or 2, H, W), labels of objects (B, N).

    Smaller images are padded with zeros, their masks with IGNORED; labels with -1.
    """
    good = [example for example in examples if example is not None]
    if not good:
        raise DlkitError("a whole batch of training images cannot be read")
    height = max(example.image.shape[-2] for example in good)
    width = max(example.image.shape[-1] for example in good)
    images = torch.zeros(len(good), len(good[0].image), height, width, dtype=torch.uint8)
    indices = torch.zeros(len(good), len(good[0].indices), height, width, dtype=torch.uint8)
    indices[:, 0] = IGNORED
    labels = torch.full((len(good), max(len(example.labels) for example in good)), -1)
    for row, example in enumerate(good):
        h, w = example.image.shape[-2:]
        images[row, :, :h, :w] = example.image
        indices[row, :, :h, :w] = example.indices
        labels[row, : len(example.labels)] = example.labels
    return [images, indices, labels]


def class_weights(samples: Sequence[Sample], how: str) -> Tensor:
    """Weights (C,) of the classes, whose mean over the training pixels is 1; 0 of absent ones.

    `inverse`: 1 / the class's share of all pixels. `median`: the median of the frequencies over
    the class's own, a frequency being the share in the images that have the class at all (Eigen
    and Fergus 2015, section 3.2).
    """
    pixels = np.stack([sample.pixels for sample in samples]).astype(float)
    totals = pixels.sum(axis=0)
    there = totals > 0
    frequency = totals.copy()
    if how == "median":
        of_images = pixels.sum(axis=1)
        frequency[there] /= np.array([of_images[own > 0].sum() for own in pixels.T[there]])
    weights = np.zeros_like(totals)
    weights[there] = np.median(frequency[there]) / frequency[there]
    return torch.tensor(weights * totals.sum() / (weights * totals).sum(), dtype=torch.float)
