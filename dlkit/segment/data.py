"""Training data: augmented images with their masks.

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
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.segment.augment import warp
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.layouts import AnnotatedImage
from dlkit.segment.masks import IGNORED, ObjectMask

MAX_CACHED_BYTES = 4_000_000_000  # of decoded training images and masks
MAX_OBJECTS = 254  # per image; the smallest ones are dropped


@dataclass(frozen=True)
class Example:
    """A decoded image with its ground truth.

    `image` is uint8 (3, h, w), or (4, h, w) with the border map; `indices` is uint8 (1, h, w), the
    mask, or (2, h, w) with object ids from 1; `labels` (N,) are the labels of these objects.
    """

    image: Tensor
    indices: Tensor
    labels: Tensor


class SegmentationDataset(Dataset[Example | None]):
    """Augmented training images: whole, or crops of one size.

    With `objects` the indices include object ids, for `--task instance`. Unreadable images are
    counted in the ledger.
    """

    def __init__(
        self,
        samples: Sequence[AnnotatedImage],
        config: SegmentTrainConfig,
        objects: bool,
        ledger: Ledger,
    ) -> None:
        self.samples, self.config, self.objects = list(samples), config, objects
        self.ledger = ledger
        self.cache: list[Example | None] = []
        size = sum(s.width * s.height * resize_factor(s, config) ** 2 for s in self.samples)
        if size * (4 + bool(config.border_weight) + objects) <= MAX_CACHED_BYTES:
            with ThreadPoolExecutor() as pool:
                decoded = pool.map(self.decode, self.samples)
                self.cache = list(track(decoded, "reading", len(self.samples)))

    def decode(self, sample: AnnotatedImage) -> Example | None:
        """The image at the network's input size; None if it is damaged."""
        side = self.config.image_size
        try:
            pixels = images.read(str(sample.path), side).pixels
            mask = torch.from_numpy(sample.truth.mask())[None]
            layers, labels = [resize_indices(mask, pixels)], torch.zeros(0, dtype=torch.long)
            if self.objects or self.config.border_weight:
                object_ids, labels = number_objects(sample.truth.objects(), mask.shape[1:])
                layers.append(resize_indices(object_ids[None], pixels))
            if self.config.border_weight:
                borders = border_map(layers[1][0].numpy(), self.config.border_sigma)
                pixels = torch.cat([pixels, torch.from_numpy(borders)[None]])
        except DlkitError as error:
            self.ledger.drop("images", "unreadable image", f"{sample.path} ({error})")
            log(f"skipped {sample.path}: {error}")
            return None
        return Example(pixels, torch.cat(layers if self.objects else layers[:1]), labels)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Example | None:
        example = self.cache[index] if self.cache else self.decode(self.samples[index])
        if example is None:
            return None
        height, width = example.image.shape[-2:]
        size = (self.config.crop or height, self.config.crop or width)
        image, indices = warp(example.image, example.indices, size, self.config)
        return Example(image, indices, example.labels)


def resize_factor(sample: AnnotatedImage, config: SegmentTrainConfig) -> float:
    """The factor by which `--image-size` scales an image."""
    return (config.image_size or max(sample.width, sample.height)) / max(
        sample.width, sample.height
    )


def resize_indices(indices: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbor resizing of indices (1, h, w) to the size of an image (3, H, W)."""
    if indices.shape[-2:] == like.shape[-2:]:
        return indices
    return F.interpolate(indices[None], size=like.shape[-2:], mode="nearest-exact")[0]


def number_objects(objects: Sequence[ObjectMask], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The object id of each pixel (h, w), from 1, and the objects' labels (N,), without crowds.

    Where objects overlap, the smaller one is in front.
    """
    largest = sorted((o for o in objects if not o.crowd), key=lambda o: -o.area)[:MAX_OBJECTS]
    ids = np.zeros(tuple(size), np.uint8)
    for number, thing in enumerate(largest, 1):
        ids[thing.mask] = number
    return torch.from_numpy(ids), torch.tensor([o.label for o in largest], dtype=torch.long)


def border_map(object_ids: np.ndarray, sigma: float) -> np.ndarray:
    """255 exp(-(d1 + d2)^2 / (2 sigma^2)) on the background between objects (h, w), uint8.

    d1 and d2 are the distances between pixel centers to the nearest and second nearest object
    (Ronneberger et al. 2015, equation 2); `object_ids` (h, w) are 0 on the background.
    """
    reach = math.ceil(4 * sigma)  # beyond this distance the weight rounds to zero
    nearest = np.full((2, *object_ids.shape), np.inf)
    for number in range(1, int(object_ids.max()) + 1):
        rows, columns = np.nonzero(object_ids == number)
        if not len(rows):
            continue
        around = np.s_[
            max(0, rows.min() - reach) : rows.max() + reach + 1,
            max(0, columns.min() - reach) : columns.max() + reach + 1,
        ]
        distance = distances(object_ids[around] == number, reach)
        first, second = nearest[0][around], nearest[1][around]
        second[:] = np.minimum(second, np.maximum(first, distance))
        first[:] = np.minimum(first, distance)
    weights = np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2)) * (object_ids == 0)
    rounded: np.ndarray = np.round(255 * weights).astype(np.uint8)
    return rounded


def distances(inside: np.ndarray, reach: int) -> np.ndarray:
    """Distance (h, w) of each pixel to the nearest one that is `inside`; inf beyond `reach`.

    Squared distances are minimized first along columns, then along rows.
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
    """A batch: images (B, 3 or 4, H, W), indices (B, 1 or 2, H, W), labels of objects (B, N).

    Images are padded with zeros, masks with IGNORED, labels with -1.
    """
    good = [example for example in examples if example is not None]
    if not good:
        raise DlkitError("none of the images of a training batch can be read; check the files")
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


def class_weights(samples: Sequence[AnnotatedImage], how: str) -> Tensor:
    """Class weights (C,) with mean 1 over the training pixels; 0 for absent classes.

    `inverse`: inverse frequency over all pixels. `median`: median frequency divided by the class's
    frequency, which is its share of the pixels in the images that contain it (Eigen and Fergus
    2015, section 3.2).
    """
    pixels = np.stack([sample.pixels for sample in samples]).astype(float)
    totals = pixels.sum(axis=0)
    present = totals > 0
    frequency = totals.copy()
    if how == "median":
        per_image = pixels.sum(axis=1)
        frequency[present] /= np.array([per_image[own > 0].sum() for own in pixels.T[present]])
    weights = np.zeros_like(totals)
    weights[present] = np.median(frequency[present]) / frequency[present]
    return torch.tensor(weights * totals.sum() / (weights * totals).sum(), dtype=torch.float)
