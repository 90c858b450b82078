"""Images of one object with keypoints: reading, crops of images of several, and augmentation.

Keypoints are in pixels of the upright image, or of the region of it that shows the object.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dlkit.core.config import ALLOW_SKIPPED
from dlkit.core.datasets.samples import Annotation, Box, Pose, Sample, Source
from dlkit.core.datasets.sources import find_source
from dlkit.core.datasets.splits import Draw, require_val
from dlkit.core.datasets.splits import read_split as samples_of
from dlkit.core.datasets.splits import read_training as training_samples
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.data import CanvasDataset, gray_canvas
from dlkit.detect.layouts import ImageFile, box_area, inside_image

Region = tuple[int, int, int, int]  # x1, y1, x2, y2

MARGIN = 0.125  # of the size of an object's box, around it on each side in its crop
NO_OBJECT = "images without an object with keypoints, which are ignored"
NO_KEYPOINT = "objects without an annotated keypoint, which are ignored"
NO_POSE = "objects of classes without keypoints, which are ignored"
CROWD = "crowds, which are ignored"
AREA = 0.53  # of a person's box that its outline covers, where no area is given (as Ultralytics)


@dataclass(frozen=True)
class KeypointSample(ImageFile):
    """An image and the keypoints (K, 2) of its object in pixels; nan if not annotated.

    With `region` it is that part of the file, of which are the width, the height and the keypoints.
    `area` is that of the object in square pixels; nan if unknown.
    """

    points: np.ndarray
    region: Region | None = None
    area: float = math.nan

    @property
    def source(self) -> "RegionPath":
        """The path with the region."""
        path = RegionPath(self.path)
        path.region = self.region
        return path


class RegionPath(str):
    """The path of an image, of which only a region is read."""

    region: Region | None = None


@dataclass(frozen=True)
class KeypointSplit:
    """One split of a data set."""

    samples: list[KeypointSample]
    pose: Pose
    ledger: Ledger


def read_picture(path: str, side: int | None = None) -> Picture:
    """An image, or the region of it that a RegionPath has; with `side` at that longest side."""
    region = path.region if isinstance(path, RegionPath) else None
    if region is None:
        return images.read(path, side)
    x1, y1, x2, y2 = region
    whole = images.read(str(path))
    part = Picture(whole.pixels[:, y1:y2, x1:x2], x2 - x1, y2 - y1)
    return part if side is None else images.resized(part, side)


def read_split(
    data: Path,
    split: str,
    labels: Sequence[str] | None = None,
    draw: Draw | None = None,
    allowed: float = ALLOW_SKIPPED,
) -> KeypointSplit:
    """Read the images and keypoints of one split; `labels` are the names that they must have.

    Bad annotations and missing images are skipped, counted and reported. Raises DlkitError if the
    layout is unknown or has no keypoints, if nothing is left, or if more than the share `allowed`
    is skipped.
    """
    source, ledger = find_source(data, "keypoints"), Ledger(split)
    pose = find_pose(source)
    if labels is not None:
        check_pose(pose, labels, source.root)
    samples = samples_of(source, split, draw or Draw(), ledger)
    return annotated(source, samples, pose, ledger, allowed)


def read_training(config: DetectTrainConfig) -> tuple[KeypointSplit, KeypointSplit]:
    """Read `train` and `val`; raises DlkitError as `read_split` does."""
    source, ledgers = find_source(config.data, "keypoints"), (Ledger("train"), Ledger("val"))
    pose = find_pose(source)
    if config.keypoints not in {0, pose.count}:
        raise DlkitError(
            f"--keypoints {config.keypoints}, but its objects have {described(pose)}", source.root
        )
    draw = Draw.of(asdict(config))
    require_val(source, draw)
    parts = training_samples(source, draw, *ledgers)
    training, validation = (
        annotated(source, own, pose, ledger, config.allowed)
        for own, ledger in zip(parts, ledgers, strict=True)
    )
    return training, validation


def find_pose(source: Source) -> Pose:
    """The keypoints of a data set, which are the same in all of its classes that have some."""
    poses = list(source.classes.poses.items())
    if not poses:
        raise DlkitError(
            f"{source.layout} without keypoints: no class has some (kpt_shape in data.yaml of YOLO,"
            " `keypoints` in the categories or annotations of COCO)",
            source.root,
        )
    label, pose = poses[0]
    for other, own in poses[1:]:
        if own != pose:
            raise DlkitError(
                f"{label!r} and {other!r} have different keypoints; keep one of them", source.root
            )
    return pose


def described(pose: Pose) -> str:
    """The number of keypoints and their names."""
    names = f" ({', '.join(pose.names)})" if pose.names else ""
    return f"{pose.count} keypoints{names}"


def check_pose(pose: Pose, labels: Sequence[str], root: Path) -> None:
    """Raise DlkitError if the keypoints of data are not those of a model."""
    if pose.count != len(labels):
        raise DlkitError(
            f"its objects have {described(pose)}, but the model finds {len(labels)}:"
            f" {', '.join(labels)}",
            root,
        )
    if labels == keypoint_labels(Pose(len(labels))):
        return
    for number, (name, label) in enumerate(zip(pose.names, labels, strict=False), 1):
        if name != label:
            raise DlkitError(f"keypoint {number} is {name}, but {label} in the model", root)


def keypoint_labels(pose: Pose) -> list[str]:
    """The names of the keypoints, or their numbers from 1 on where they have none."""
    return list(pose.names) or [str(number) for number in range(1, pose.count + 1)]


def annotated(
    source: Source, samples: Sequence[Sample], pose: Pose, ledger: Ledger, allowed: float
) -> KeypointSplit:
    """The objects of samples, counted, reported and checked."""
    ledger.rename("annotations", "objects")
    for kind in ("images", "objects", "keypoints"):  # in this order in the summary
        ledger.use(kind, 0)
    found: list[KeypointSample] = []
    classes = set(source.classes.poses)
    for sample in samples:
        objects = list(read_objects(sample, pose, classes, ledger))
        found += objects
        if objects:
            ledger.use("images")
        else:
            ledger.note(NO_OBJECT, str(sample.path))
    ledger.report()
    ledger.require("objects" if samples else "images", source.root)
    ledger.check(allowed, source.root)
    return KeypointSplit(found, pose, ledger)


def read_objects(
    sample: Sample, pose: Pose, classes: set[str], ledger: Ledger
) -> Iterator[KeypointSample]:
    """The objects of an image with keypoints; each of several in a crop."""
    assert sample.size is not None  # a reader has measured it
    whole: Region = (0, 0, *sample.size)
    several = sum(not a.label or a.label in classes for a in sample.annotations) > 1
    for annotation in sample.annotations:
        if annotation.label and annotation.label not in classes:
            ledger.note(NO_POSE, f"{annotation.where} ({annotation.label})")
            continue
        box = usable_box(annotation, pose, sample.size)
        if isinstance(box, str):
            ledger.skip("objects", box, annotation.where)
            continue
        if annotation.crowd or not any(point.visibility for point in annotation.keypoints):
            ledger.note(CROWD if annotation.crowd else NO_KEYPOINT, annotation.where)
            continue
        numbers = range(pose.count)
        points = np.array([parse_point(annotation, k, sample.size, ledger) for k in numbers])
        if np.isnan(points).all():
            ledger.skip("objects", "object of which no keypoint can be used", annotation.where)
            continue
        ledger.use("objects")
        area = annotation.area
        if area is None:
            area = math.nan if box is None else AREA * box_area(box)
        region = crop(points, box, sample.size) if several else whole
        yield KeypointSample(
            sample.path,
            region[2] - region[0],
            region[3] - region[1],
            (points - region[:2]).astype(np.float32),
            region if several else None,
            area,
        )


def usable_box(annotation: Annotation, pose: Pose, size: tuple[int, int]) -> Box | None | str:
    """The box of an object, None without one, or the reason why the object cannot be used."""
    if not annotation.label:
        return annotation.flaw
    count = len(annotation.keypoints)
    if annotation.pose_flaw:
        return annotation.pose_flaw
    if count not in {0, pose.count}:
        return f"object of {count} keypoints, not {pose.count}"
    box = annotation.bounds
    return None if box is None else inside_image(box, *size)


def parse_point(
    annotation: Annotation, number: int, size: tuple[int, int], ledger: Ledger
) -> tuple[float, float]:
    """The place of a keypoint; nan for one that is not annotated or not in its image."""
    point = annotation.keypoints[number]
    if point.visibility:
        if 0 <= point.x <= size[0] and 0 <= point.y <= size[1]:  # false for nan
            ledger.use("keypoints")
            return point.x, point.y
        place = f"{annotation.where}: keypoint {number + 1}"
        ledger.skip("keypoints", "keypoint outside its image", place)
    return math.nan, math.nan


def crop(points: np.ndarray, box: Box | None, size: tuple[int, int]) -> Region:
    """The region of an object in an image (width, height): its box and keypoints, and a margin."""
    corners = points if box is None else np.concatenate([points, np.reshape(box, (2, 2))])
    low, high = np.nanmin(corners, axis=0), np.nanmax(corners, axis=0)
    margin = MARGIN * np.maximum(high - low, 1)
    low = np.clip(np.floor(low - margin), 0, np.subtract(size, 1))
    high = np.clip(np.ceil(high + margin), low + 1, size)
    x1, y1, x2, y2 = map(int, [*low, *high])
    return x1, y1, x2, y2


class KeypointDataset(CanvasDataset[KeypointSample]):
    """Augmented training images of one size: image (3, S, S), keypoints (K, 2) in its pixels.

    They are mirrored where `mirrored` has the keypoint that each is in a mirrored image.
    """

    kind: ClassVar[str] = "objects"

    def __init__(
        self,
        samples: list[KeypointSample],
        config: DetectTrainConfig,
        mirrored: tuple[int, ...] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        super().__init__(samples, config, ledger)
        self.mirrored = mirrored

    def read(self, sample: KeypointSample) -> Picture:
        return read_picture(sample.source, self.config.image_size)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        side = self.config.image_size
        canvas = gray_canvas(side)
        zoom = self.config.zoom ** random.uniform(-1, 1)
        transform = self.paste_image(canvas, (0, 0, side, side), index, zoom)
        points = np.full_like(self.samples[index].points, np.nan)
        if transform is not None:
            points = (self.samples[index].points * transform[0] + transform[1]).astype(np.float32)
        points[((points < 0) | (points > side)).any(axis=1)] = np.nan  # not visible
        pixels = self.jitter_color(canvas)
        if self.mirrored is not None and random.random() < self.config.flip:
            pixels = pixels[:, ::-1]
            points = (points * (-1, 1) + (side, 0)).astype(np.float32)[list(self.mirrored)]
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return image, torch.from_numpy(points)
