"""Segmentation networks ready for inference, and the label maps they predict.

Shapes: B images, C classes, H x W pixels of the image, h x w of the network's input. A label map
holds the class index of each pixel.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.datasets.splits import Draw
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.io.colors import Color
from dlkit.core.parallel.device import autocast
from dlkit.core.vision import images
from dlkit.core.vision.batches import WINDOW, group_by_shape
from dlkit.core.vision.images import MIN_SIDE, Picture
from dlkit.core.vision.tile import in_tiles
from dlkit.segment.architecture import InstanceNetwork, InstancePrediction, SemanticNetwork

N = TypeVar("N")

SCALES = (0.75, 1.0, 1.25)  # of the views that --tta averages, each also mirrored
STRIP_PIXELS = 1_000_000  # of a large image that are classified at once


@dataclass(frozen=True)
class LabelMap:
    """The prediction for one image: labels (H, W), and optionally probabilities (C, H, W)."""

    labels: np.ndarray  # uint8
    probabilities: np.ndarray | None = None  # float16


@dataclass(frozen=True)
class InferOptions:
    """Inference options.

    `image_size` is the longest side of the network's input; None: as in training, or full
    resolution in tiles. `tile` is the side of the tiles; None: whole images. `tta` averages
    several views. `threshold` is the minimum score of objects.
    """

    image_size: int | None = None
    tile: int | None = None
    tta: bool = False
    batch_size: int = 4
    workers: int = 2
    threshold: float = 0.5


DEFAULT_OPTIONS = InferOptions()


@dataclass(frozen=True)
class Predictor(Generic[N]):
    """A segmentation network ready for inference, with its labels and input size.

    `draw` is how its training drew a val split, if the data had none.
    """

    network: N
    labels: list[str]
    image_size: int | None
    device: torch.device
    colors: list[Color]
    autocast: str = "fp32"  # precision during training, whose weights stay fp32
    draw: Draw = Draw()


class InstancePredictor(Predictor[InstanceNetwork]):
    """An instance segmentation network ready for inference."""

    @torch.inference_mode()
    def predict(
        self, batch: list[Tensor], threshold: float, limit: int
    ) -> list[InstancePrediction]:
        """The objects in uint8 images (3, h, w) that score at least `threshold`, best first."""
        with autocast(self.device, self.autocast):
            return self.network.predict(batch, threshold, limit)


class SemanticPredictor(Predictor[SemanticNetwork]):
    """A semantic segmentation network ready for inference."""

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (B, C, h, w) of uint8 images (B, 3, h, w)."""
        return self.forward(self.network.normalize(pixels.to(self.device)))

    @torch.inference_mode()
    def probabilities(self, pixels: Tensor, tta: bool) -> Tensor:
        """Probabilities (B, C, h, w) of uint8 images (B, 3, h, w); `tta` averages several views."""
        inputs = self.network.normalize(pixels.to(self.device))
        if not tta:
            return self.forward(inputs).softmax(dim=1)
        size = inputs.shape[-2:]
        total = torch.zeros((), device=self.device)
        for scale in SCALES:
            scaled_size = tuple(max(MIN_SIDE, round(scale * side)) for side in size)
            scaled = resize_maps(inputs, scaled_size)
            for view in (self.forward(scaled), self.forward(scaled.flip(3)).flip(3)):
                total = total + resize_maps(view, size).softmax(dim=1)
        return total / (2 * len(SCALES))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, C, h, w) of normalized images (B, 3, h, w)."""
        with autocast(self.device, self.autocast):
            logits: Tensor = self.network(inputs)
        return logits


def resize_maps(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear resizing of maps (B, K, h, w)."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def predict(
    predictor: SemanticPredictor,
    paths: Iterable[str],
    options: InferOptions = DEFAULT_OPTIONS,
    probabilities: bool = False,
) -> Iterator[tuple[str, Picture, LabelMap] | Failure]:
    """Each path with its image and label map, in order; a Failure for an unreadable image.

    Images are decoded ahead in threads and processed in batches of equal shape; with tiles, one by
    one.
    """
    side = options.image_size or (predictor.image_size if options.tile is None else None)
    workers = 0 if options.tile is not None else options.workers
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    while window := next_window(pictures, 1 if options.tile else WINDOW * options.batch_size):
        label_maps: dict[int, LabelMap] = {}
        for members in group_by_shape(window, options.batch_size):
            batch = [window[index][1] for index in members]  # type: ignore[index]
            maps = predict_batch(predictor, batch, options, probabilities)
            label_maps.update(zip(members, maps, strict=True))
        for index, entry in enumerate(window):
            yield entry if isinstance(entry, Failure) else (*entry, label_maps.pop(index))


def predict_batch(
    predictor: SemanticPredictor,
    pictures: Sequence[Picture],
    options: InferOptions,
    probabilities: bool,
) -> list[LabelMap]:
    """The label maps of images of one shape, each at its original size."""
    if options.tile is not None:
        (picture,) = pictures
        strips = in_tiles(
            lambda part: predictor.probabilities(part, options.tta),
            picture.pixels,
            options.tile,
            predictor.network.stride,
        )
        if picture.pixels.shape[1:] != (picture.height, picture.width):
            strips = upsample_strips(torch.cat(list(strips), dim=1), picture.height, picture.width)
        return [make_label_map(strips, picture, probabilities)]
    batch = torch.stack([picture.pixels for picture in pictures])
    if probabilities or options.tta:
        scores = predictor.probabilities(batch, options.tta)
    else:
        scores = predictor.logits(batch)
    return [
        make_label_map(upsample_strips(own, picture.height, picture.width), picture, probabilities)
        for own, picture in zip(scores, pictures, strict=True)
    ]


@torch.inference_mode()
def make_label_map(strips: Iterator[Tensor], picture: Picture, probabilities: bool) -> LabelMap:
    """The highest-scoring class of each pixel, from strips (C, rows, W) from the top down."""
    labels = np.empty((picture.height, picture.width), np.uint8)
    all_scores: np.ndarray | None = None
    top = 0
    for strip in strips:
        below = top + strip.shape[1]
        # max is several times as fast as argmax over the first dimension.
        labels[top:below] = strip.max(dim=0).indices.to(torch.uint8).cpu().numpy()
        if probabilities:
            if all_scores is None:
                all_scores = np.empty((len(strip), *labels.shape), np.float16)
            all_scores[:, top:below] = strip.half().cpu().numpy()
        top = below
    return LabelMap(labels, all_scores)


@torch.inference_mode()
def upsample_strips(scores: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """Bilinear resizing of scores (C, h, w), in strips (C, rows, width) from the top down."""
    if scores.shape[1:] == (height, width):
        yield scores
        return
    last = scores.shape[1] - 1
    positions = ((torch.arange(height) + 0.5) * (last + 1) / height - 0.5).clamp(0, last)
    positions = positions.to(scores.device)
    above = positions.long()
    fraction = (positions - above)[:, None]
    all_rows = torch.arange(height, device=scores.device)
    for rows in torch.split(all_rows, max(1, STRIP_PIXELS // width)):
        upper, lower = scores[:, above[rows]], scores[:, (above[rows] + 1).clamp(max=last)]
        strip = torch.lerp(upper, lower, fraction[rows])
        yield resize_maps(strip[None], (len(rows), width))[0]
