"""Keypoints of images: finding them, and how far off they are.

Shapes: N images, K keypoints.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.io import plots
from dlkit.core.io.scores import Score, known_mean, rounded
from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.detect.draw import draw_keypoints
from dlkit.detect.keypoint_data import KeypointSample
from dlkit.detect.models.localize import KeypointLocalizer
from dlkit.detect.predictor import Detector, as_batch

BATCH = 16
EXAMPLES = 8  # images in the grid
NEAR = 0.1  # share of the object's size within which a keypoint counts as found
DEFINITIONS = {
    "distance": "Mean distance of a keypoint from the truth, as a share of the image's longest"
    " side; over all that are annotated.",
    f"pck_{NEAR}": f"Share of the annotated keypoints that are off by {NEAR} or less of the longest"
    " side of the box around those of the image (Yang and Ramanan 2013); images with one only are"
    " left out.",
}


@dataclass(frozen=True)
class Keypoint:
    """The place of one keypoint in pixels of the image as shown; they count from 1."""

    keypoint: int
    x: float
    y: float


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of one image."""

    columns: ClassVar = ["path", "keypoint", "x", "y"]

    path: str
    width: int
    height: int
    keypoints: list[Keypoint]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **vars(point)} for point in self.keypoints]


def finds_keypoints(detector: Detector) -> bool:
    return isinstance(detector.network, KeypointLocalizer)


def positions(
    paths: Iterable[str], detector: Detector, batch_size: int = BATCH, workers: int = 2
) -> Iterator[tuple[str, Picture | Failure, np.ndarray]]:
    """Each path with its picture (or Failure) and the keypoints (K, 2) in its pixels, in order."""
    side = detector.image_size
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    nowhere = np.full((len(detector.labels), 2), np.nan)
    while entries := list(islice(pictures, batch_size)):
        read = [entry[1] for entry in entries if not isinstance(entry, Failure)]
        found: Iterator[np.ndarray] = iter(())
        if read:
            batch = as_batch(read, (side, side)).to(detector.device)
            with torch.inference_mode(), device.autocast(detector.device, detector.autocast):
                found = iter(detector.network(batch).cpu().numpy())
        for entry in entries:
            if isinstance(entry, Failure):
                yield entry.path, entry, nowhere
            else:
                path, picture = entry
                size = np.array([picture.width, picture.height])
                yield path, picture, (next(found) * max(size)).clip(0, size)


def locate(
    paths: Iterable[str],
    detector: Detector,
    batch_size: int = BATCH,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Keypoints | Failure]:
    """The keypoints in each image, in input order; a Failure for one that cannot be read.

    Only the `shard` of the images is processed; without one, the processes share them.
    """

    def results(shared: Iterator[str]) -> Iterator[Keypoints | Failure]:
        found = positions(track(shared, "locating"), detector, batch_size, workers)
        for path, picture, points in found:
            if isinstance(picture, Failure):
                yield picture
            else:
                named = [
                    Keypoint(number, round(float(x), 1), round(float(y), 1))
                    for number, (x, y) in enumerate(points, 1)
                ]
                yield Keypoints(path, picture.width, picture.height, named)

    return map_shard(results, images.files(paths), str(detector.device), shard)


def drawn(picture: Image.Image, found: Keypoints) -> Image.Image:
    """A copy of the picture with the keypoints."""
    points = [(point.x, point.y) for point in found.keypoints]
    return draw_keypoints(picture, points, [str(point.keypoint) for point in found.keypoints])


# ---- How far off they are ------------------------------------------------------------------------


@dataclass(frozen=True)
class Distances:
    """How far off each keypoint is (N, K), as shares of two lengths; nan where it has no truth."""

    of_image: np.ndarray  # its longest side
    of_object: np.ndarray  # the longest side of the box around the annotated keypoints

    def scores(self) -> dict[str, float]:
        """The numbers of DEFINITIONS."""
        near = np.where(np.isnan(self.of_object), np.nan, self.of_object <= NEAR)
        return dict(zip(DEFINITIONS, map(known_mean, (self.of_image, near)), strict=True))

    def each(self) -> Iterator["Distances"]:
        """Those of each keypoint (N, 1)."""
        for number in range(self.of_image.shape[1]):
            own = slice(number, number + 1)
            yield Distances(self.of_image[:, own], self.of_object[:, own])


def distances(points: np.ndarray, truth: np.ndarray, sizes: np.ndarray) -> Distances:
    """Of points (N, K, 2) in pixels from the truth, in images of sizes (N, 2)."""
    off = np.linalg.norm(points - truth, axis=2)
    low, high = np.fmin.reduce(truth, axis=1), np.fmax.reduce(truth, axis=1)
    sides = (high - low).max(axis=1)
    sides[sides == 0] = np.nan
    return Distances(off / sizes.max(axis=1)[:, None], off / sides[:, None])


def evaluate(
    detector: Detector, samples: Sequence[KeypointSample], process: Process, workers: int = 2
) -> Distances:
    """The distances in annotated images, the same in every process."""
    paths = process.share(str(sample.path) for sample in samples)
    found = process.gather(positions(paths, detector, workers=workers))
    points, truth, sizes = [], [], []
    for sample, (path, picture, own) in zip(samples, found, strict=True):
        if isinstance(picture, Failure):
            log(f"left out {path}: {picture.error}")
            continue
        points.append(own)
        truth.append(sample.points)
        sizes.append((sample.width, sample.height))
    if not points:
        raise DlkitError("none of the images to evaluate on can be read")
    return distances(np.array(points), np.array(truth), np.array(sizes))


def scores(found: Distances) -> Iterator[Score]:
    """What `evaluate` prints: the scores of all keypoints, and of each."""
    for number, own in enumerate([found, *found.each()]):
        label = str(number) if number else "all"
        annotated = int((~np.isnan(own.of_image)).sum())
        yield Score("truths", label, annotated, "Annotated keypoints.")
        for name, score in own.scores().items():
            yield Score(name, label, rounded(score), DEFINITIONS[name])


def save_curve(found: Distances, folder: Path) -> None:
    """pck.png: the share of each keypoint that is no more than so far off."""
    reaches = np.linspace(0, 1, 101)
    curves = {}
    for number, off in enumerate(found.of_object.T, 1):
        known = off[~np.isnan(off)]
        if known.size:
            curves[f"keypoint {number}"] = reaches, (known[:, None] <= reaches).mean(axis=0)
    plots.lines(curves, "distance / size of the object", "share", "PCK", folder / "pck.png")
    log(f"saved {folder / 'pck.png'}")


def save_examples(detector: Detector, samples: Sequence[KeypointSample], path: Path) -> None:
    """A grid of annotated images: the truth, and beside it what the detector finds."""
    chosen = samples[:: max(1, len(samples) // EXAMPLES)][:EXAMPLES]
    found = positions([str(sample.path) for sample in chosen], detector, workers=0)
    pairs = []
    for sample, (_, _, points) in zip(chosen, found, strict=True):
        picture = images.as_pillow(images.read(str(sample.path)))
        for own in (sample.points, points):
            there = [k for k in range(len(own)) if not np.isnan(own[k]).any()]
            names = [str(k + 1) for k in there]
            pairs.append(draw_keypoints(picture, own[there].tolist(), names))
    images.save(images.grid(pairs, columns=4), path)
