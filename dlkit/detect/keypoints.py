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

from dlkit.core.datasets.poses import mirrored_names
from dlkit.core.datasets.samples import Pose
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
from dlkit.detect.architecture import Skeleton
from dlkit.detect.draw import draw_keypoints
from dlkit.detect.keypoint_data import KeypointSample, KeypointSplit, read_picture
from dlkit.detect.models.localize import KeypointLocalizer
from dlkit.detect.predictor import Detector, pad_batch

BATCH = 16
CURVE = "pck.png"  # file of --save
EXAMPLES = 8  # images in the grid
PCK_THRESHOLD = 0.1  # fraction of the object's size within which a keypoint is correct
OKS_THRESHOLD = 0.5
PERSON = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
# Deviations of annotators as shares of the root of a person's area, by COCO.
PERSON_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
    0.087, 0.087, 0.089, 0.089,
)  # fmt: skip
DEFINITIONS = {
    "distance": "Mean distance of the annotated keypoints from the truth, as a fraction of the"
    " longest side of the image, or of the object's crop in an image of several.",
    f"pck_{PCK_THRESHOLD}": "Fraction of the annotated keypoints whose error is at most"
    f" {PCK_THRESHOLD} of the longest side of the box around the keypoints of the image (Yang and"
    " Ramanan 2013); without images of a single keypoint.",
    "oks": "Mean object keypoint similarity (COCO), with its constants of a person's 17 keypoints;"
    " without an area, with 0.53 of the box's.",
    f"oks_{OKS_THRESHOLD}": "Fraction of the objects with an object keypoint similarity of at least"
    f" {OKS_THRESHOLD}.",
}


@dataclass(frozen=True)
class Keypoint:
    """A keypoint's number, from 1 on, its place in pixels of the upright image, and its name.

    The name is the number where the training data had none.
    """

    keypoint: int
    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Keypoints(ImageResult):
    """The keypoints of one image.

    `skeleton` are pairs of them, from 0 on, that the drawing connects; it is not in the record.
    """

    noun: ClassVar = "image"
    units: ClassVar = {"x": "px", "y": "px"}
    columns: ClassVar = ["path", "keypoint", "x", "y", "name"]
    skeleton: ClassVar[Skeleton] = ()

    path: str
    width: int
    height: int
    keypoints: list[Keypoint]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **vars(point)} for point in self.keypoints]


def finds_keypoints(detector: Detector) -> bool:
    return isinstance(detector.network, KeypointLocalizer)


def skeleton_of(detector: Detector) -> Skeleton:
    """The pairs of keypoints that lines connect."""
    assert isinstance(detector.network, KeypointLocalizer)
    return detector.network.skeleton


def predict_keypoints(
    paths: Iterable[str], detector: Detector, batch_size: int = BATCH, workers: int = 2
) -> Iterator[tuple[str, Picture | Failure, np.ndarray]]:
    """Yield each path with its picture or Failure and the keypoints (K, 2) in pixels, in order.

    Of a RegionPath, only the region is the picture.
    """
    network, side = detector.network, detector.image_size
    assert isinstance(network, KeypointLocalizer)
    pictures = each(lambda path: (path, read_picture(path, side)), paths, workers)
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
                    Keypoint(number, round(float(x), 1), round(float(y), 1), name)
                    for number, ((x, y), name) in enumerate(
                        zip(points, detector.labels, strict=True), 1
                    )
                ]
                result = Keypoints(path, picture.width, picture.height, named)
                object.__setattr__(result, "skeleton", skeleton_of(detector))
                yield result

    return map_shard(results, files(paths), str(detector.device), shard)


def draw(picture: Image.Image, found: Keypoints) -> Image.Image:
    """A copy of the picture with its keypoints drawn."""
    points = [(point.x, point.y) for point in found.keypoints]
    names = [point.name for point in found.keypoints]
    return draw_keypoints(picture, points, names, found.skeleton)


# ---- Evaluation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distances:
    """Errors of keypoints (N, K) as fractions of two lengths; nan where there is no truth.

    `similarities` (N,) are object keypoint similarities, empty where they are not defined.
    """

    of_image: np.ndarray  # its longest side
    of_object: np.ndarray  # the longest side of the box around the annotated keypoints
    similarities: np.ndarray

    def scores(self) -> dict[str, float]:
        """The scores that DEFINITIONS explains."""
        near = np.where(np.isnan(self.of_object), np.nan, self.of_object <= PCK_THRESHOLD)
        scores = [known_mean(self.of_image), known_mean(near)]
        if self.similarities.size:
            known = ~np.isnan(self.similarities)
            similar = np.where(known, self.similarities >= OKS_THRESHOLD, np.nan)
            scores += [known_mean(self.similarities), known_mean(similar)]
        return dict(zip(DEFINITIONS, scores, strict=False))

    def each(self) -> Iterator["Distances"]:
        """The distances (N, 1) of each keypoint."""
        for number in range(self.of_image.shape[1]):
            own = slice(number, number + 1)
            yield Distances(self.of_image[:, own], self.of_object[:, own], np.zeros(0))


def distances(
    points: np.ndarray,
    truth: np.ndarray,
    sizes: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray | None = None,
) -> Distances:
    """Distances of points (N, K, 2) in pixels from the truth, in images of sizes (N, 2).

    With `sigmas` (K,) also the similarities of objects of `areas` (N,).
    """
    error = np.linalg.norm(points - truth, axis=2)
    low, high = np.fmin.reduce(truth, axis=1), np.fmax.reduce(truth, axis=1)
    sides = (high - low).max(axis=1)
    sides[sides == 0] = np.nan
    similarities = np.zeros(0)
    if sigmas is not None:
        similarities = keypoint_similarities(error, areas, sigmas)
    return Distances(error / sizes.max(axis=1)[:, None], error / sides[:, None], similarities)


def keypoint_similarities(error: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """COCO's object keypoint similarity (N,) of errors (N, K) in pixels; nan without an area.

    The mean of exp(-d^2 / (2 area (2 sigma)^2)) over the annotated keypoints.
    """
    variances = (2 * sigmas) ** 2 * np.where(areas > 0, areas, np.nan)[:, None]
    return np.array([known_mean(own) for own in np.exp(-(error**2) / (2 * variances))])


def sigmas_of(pose: Pose) -> np.ndarray | None:
    """COCO's constants for the keypoints of a person, None for others.

    Keypoints without names are those of a person if there are 17 with the same mirrored ones.
    """
    person = Pose(len(PERSON), PERSON, mirrored=mirrored_names(PERSON))
    is_person = pose.names == PERSON or (not pose.names and pose.mirrored == person.mirrored)
    return np.array(PERSON_SIGMAS) if is_person else None


def evaluate(
    detector: Detector, split: KeypointSplit, process: Process, workers: int = 2
) -> Distances:
    """The distances on annotated images, the same in every process."""
    samples = split.samples
    paths = process.share(sample.source for sample in track(samples, "evaluating"))
    found = process.gather(predict_keypoints(paths, detector, workers=workers))
    points, truth, sizes, areas = [], [], [], []
    ledger = Ledger("evaluation")
    for sample, (path, picture, own) in zip(samples, found, strict=True):
        if isinstance(picture, Failure):
            ledger.skip("objects", picture.error, path)
            continue
        points.append(own)
        truth.append(sample.points)
        sizes.append((sample.width, sample.height))
        areas.append(sample.area)
        ledger.use("objects")
    if ledger.places:
        ledger.report()
    if not points:
        raise DlkitError("evaluation: none of the images can be read; check the data")
    return distances(
        np.array(points), np.array(truth), np.array(sizes), np.array(areas), sigmas_of(split.pose)
    )


def to_scores(found: Distances, labels: Sequence[str]) -> Iterator[Score]:
    """The scores that `evaluate` prints, overall and per keypoint."""
    for label, own in zip(["all", *labels], [found, *found.each()], strict=True):
        annotated = int((~np.isnan(own.of_image)).sum())
        yield Score("truths", label, annotated, "Annotated keypoints.")
        for name, score in own.scores().items():
            yield Score(name, label, rounded(score), DEFINITIONS[name])


def save_curve(found: Distances, labels: Sequence[str], path: Path) -> None:
    """Save the fraction of correct keypoints over the threshold, for each keypoint."""
    thresholds = np.linspace(0, 1, 101)
    curves = {}
    for label, error in zip(labels, found.of_object.T, strict=True):
        known = error[~np.isnan(error)]
        if known.size:
            curves[label if not label.isdecimal() else f"keypoint {label}"] = (
                thresholds,
                (known[:, None] <= thresholds).mean(axis=0),
            )
    plots.lines(curves, "distance / size of the object", "share", "PCK", path)


def save_examples(detector: Detector, samples: Sequence[KeypointSample], path: Path) -> None:
    """Save a grid of annotated images: the truth, and beside it the prediction, with captions."""
    chosen = samples[:: max(1, len(samples) // EXAMPLES)][:EXAMPLES]
    found = predict_keypoints([sample.source for sample in chosen], detector, workers=0)
    pairs = []
    for sample, (_, _, points) in zip(chosen, found, strict=True):
        picture = images.as_pillow(read_picture(sample.source))
        for own in (sample.points, points):
            skeleton = skeleton_of(detector)
            pairs.append(draw_keypoints(picture, own.tolist(), detector.labels, skeleton))
    captions = ["truth", "prediction"] * len(chosen)
    images.save(images.grid(pairs, 4, captions=captions), path)
