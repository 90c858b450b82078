"""Prediction, drawing and evaluation of keypoints.

Shapes: N images, K keypoints.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.io import plots
from dlkit.core.io.image_files import files
from dlkit.core.io.scores import Score, known_mean, rounded
from dlkit.core.ledger import Ledger
from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.core.vision.results import ImageResult
from dlkit.detect.draw import draw_keypoints
from dlkit.detect.keypoint_data import KeypointSample
from dlkit.detect.models.localize import KeypointLocalizer
from dlkit.detect.predictor import Detector, pad_batch

BATCH = 16
CURVE = "pck.png"  # file of --save
EXAMPLES = 8  # images in the grid
PCK_THRESHOLD = 0.1  # fraction of the object's size within which a keypoint is correct
DEFINITIONS = {
    "distance": "Mean distance of the annotated keypoints from the truth, as a fraction of the"
    " image's longest side.",
    f"pck_{PCK_THRESHOLD}": "Fraction of the annotated keypoints whose error is at most"
    f" {PCK_THRESHOLD} of the longest side of the box around the keypoints of the image (Yang and"
    " Ramanan 2013); without images of a single keypoint.",
}


@dataclass(frozen=True)
class Keypoint:
    """A keypoint's number, from 1 on, and its place in pixels of the upright image."""

    keypoint: int
    x: float
    y: float


@dataclass(frozen=True)
class Keypoints(ImageResult):
    """The keypoints of one image."""

    noun: ClassVar = "image"
    units: ClassVar = {"x": "px", "y": "px"}
    columns: ClassVar = ["path", "keypoint", "x", "y"]

    path: str
    width: int
    height: int
    keypoints: list[Keypoint]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **vars(point)} for point in self.keypoints]


def finds_keypoints(detector: Detector) -> bool:
    return isinstance(detector.network, KeypointLocalizer)


def predict_keypoints(
    paths: Iterable[str], detector: Detector, batch_size: int = BATCH, workers: int = 2
) -> Iterator[tuple[str, Picture | Failure, np.ndarray]]:
    """Yield each path with its picture or Failure and the keypoints (K, 2) in pixels, in order."""
    network, side = detector.network, detector.image_size
    assert isinstance(network, KeypointLocalizer)
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    missing = np.full((len(detector.labels), 2), np.nan)
    while entries := next_window(pictures, batch_size):
        read = [entry[1] for entry in entries if not isinstance(entry, Failure)]
        found: Iterator[np.ndarray] = iter(())
        if read:
            batch = pad_batch(read, (side, side)).to(detector.device)
            with torch.inference_mode(), device.autocast(detector.device, detector.autocast):
                found = iter(network(batch).cpu().numpy())
        for entry in entries:
            if isinstance(entry, Failure):
                yield entry.path, entry, missing
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
    """Locate the keypoints in each image, in input order; a Failure for an unreadable image.

    With `shard`, only its share of the images; otherwise they are distributed over the processes.
    """

    def results(shared: Iterator[str]) -> Iterator[Keypoints | Failure]:
        found = predict_keypoints(track(shared, "locating"), detector, batch_size, workers)
        for path, picture, points in found:
            if isinstance(picture, Failure):
                yield picture
            else:
                named = [
                    Keypoint(number, round(float(x), 1), round(float(y), 1))
                    for number, (x, y) in enumerate(points, 1)
                ]
                yield Keypoints(path, picture.width, picture.height, named)

    return map_shard(results, files(paths), str(detector.device), shard)


def draw(picture: Image.Image, found: Keypoints) -> Image.Image:
    """A copy of the picture with its keypoints drawn."""
    points = [(point.x, point.y) for point in found.keypoints]
    return draw_keypoints(picture, points, [str(point.keypoint) for point in found.keypoints])


# ---- Evaluation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distances:
    """Errors of keypoints (N, K) as fractions of two lengths; nan where there is no truth."""

    of_image: np.ndarray  # its longest side
    of_object: np.ndarray  # the longest side of the box around the annotated keypoints

    def scores(self) -> dict[str, float]:
        """The scores that DEFINITIONS explains."""
        near = np.where(np.isnan(self.of_object), np.nan, self.of_object <= PCK_THRESHOLD)
        return dict(zip(DEFINITIONS, map(known_mean, (self.of_image, near)), strict=True))

    def each(self) -> Iterator["Distances"]:
        """The distances (N, 1) of each keypoint."""
        for number in range(self.of_image.shape[1]):
            own = slice(number, number + 1)
            yield Distances(self.of_image[:, own], self.of_object[:, own])


def distances(points: np.ndarray, truth: np.ndarray, sizes: np.ndarray) -> Distances:
    """Distances of points (N, K, 2) in pixels from the truth, in images of sizes (N, 2)."""
    error = np.linalg.norm(points - truth, axis=2)
    low, high = np.fmin.reduce(truth, axis=1), np.fmax.reduce(truth, axis=1)
    sides = (high - low).max(axis=1)
    sides[sides == 0] = np.nan
    return Distances(error / sizes.max(axis=1)[:, None], error / sides[:, None])


def evaluate(
    detector: Detector, samples: Sequence[KeypointSample], process: Process, workers: int = 2
) -> Distances:
    """The distances on annotated images, the same in every process."""
    paths = process.share(str(sample.path) for sample in track(samples, "evaluating"))
    found = process.gather(predict_keypoints(paths, detector, workers=workers))
    points, truth, sizes, ledger = [], [], [], Ledger("evaluation")
    for sample, (path, picture, own) in zip(samples, found, strict=True):
        if isinstance(picture, Failure):
            ledger.skip("images", picture.error, path)
            continue
        points.append(own)
        truth.append(sample.points)
        sizes.append((sample.width, sample.height))
        ledger.use("images")
    if ledger.places:
        ledger.report()
    if not points:
        raise DlkitError("evaluation: none of the images can be read; check the data")
    return distances(np.array(points), np.array(truth), np.array(sizes))


def to_scores(found: Distances) -> Iterator[Score]:
    """The scores that `evaluate` prints, overall and per keypoint."""
    for number, own in enumerate([found, *found.each()]):
        label = str(number) if number else "all"
        annotated = int((~np.isnan(own.of_image)).sum())
        yield Score("truths", label, annotated, "Annotated keypoints.")
        for name, score in own.scores().items():
            yield Score(name, label, rounded(score), DEFINITIONS[name])


def save_curve(found: Distances, path: Path) -> None:
    """Save the fraction of correct keypoints over the threshold, for each keypoint."""
    thresholds = np.linspace(0, 1, 101)
    curves = {}
    for number, error in enumerate(found.of_object.T, 1):
        known = error[~np.isnan(error)]
        if known.size:
            curves[f"keypoint {number}"] = thresholds, (known[:, None] <= thresholds).mean(axis=0)
    plots.lines(curves, "distance / size of the object", "share", "PCK", path)


def save_examples(detector: Detector, samples: Sequence[KeypointSample], path: Path) -> None:
    """Save a grid of annotated images: the truth, and beside it the prediction, with captions."""
    chosen = samples[:: max(1, len(samples) // EXAMPLES)][:EXAMPLES]
    found = predict_keypoints([str(sample.path) for sample in chosen], detector, workers=0)
    pairs = []
    for sample, (_, _, points) in zip(chosen, found, strict=True):
        picture = images.as_pillow(images.read(str(sample.path)))
        for own in (sample.points, points):
            annotated = [k for k in range(len(own)) if not np.isnan(own[k]).any()]
            names = [str(k + 1) for k in annotated]
            pairs.append(draw_keypoints(picture, own[annotated].tolist(), names))
    captions = ["truth", "prediction"] * len(chosen)
    images.save(images.grid(pairs, 4, captions=captions), path)
