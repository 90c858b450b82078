"""Results derived from detections: tracked objects, counts, and crops."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, note_saved, picture_suffix, safe_name
from dlkit.core.io.results import note_nothing
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.core.vision import images
from dlkit.core.vision.annotate import with_pictures
from dlkit.detect.infer import Detections, Object, TrackedObject
from dlkit.detect.track import Tracker


@dataclass(frozen=True)
class Frame(Detections):
    """The objects of one frame of a video; `time` is in seconds after the first frame."""

    noun: ClassVar = "frame"
    nothing: ClassVar = None
    units: ClassVar = {**Detections.units, "time": "s"}
    columns: ClassVar = ["path", "frame", "time", *Detections.columns[1:]]

    frame: int
    time: float

    def rows(self) -> list[dict[str, Any]]:
        place = {"path": self.path, "frame": self.frame, "time": self.time}
        return [{**place, **vars(found)} for found in self.objects]


# ---- Tracking ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrackedDetections(Detections):
    """The tracked objects of an image that is a frame of a sequence."""

    columns: ClassVar = [*Detections.columns, "track"]


@dataclass(frozen=True)
class TrackedFrame(Frame):
    """The tracked objects of a frame of a video."""

    columns: ClassVar = [*Frame.columns, "track"]


def number_objects(found: Sequence[Object], tracker: Tracker) -> list[Object]:
    """Add track numbers to the objects of the next frame; unconfirmed ones are dropped."""
    boxes = np.array([[o.x1, o.y1, o.x2, o.y2] for o in found]).reshape(-1, 4)
    numbers = tracker.update(boxes, [own.label for own in found])
    return [
        TrackedObject(**vars(own), track=number)
        for own, number in zip(found, numbers, strict=True)
        if number is not None
    ]


def track_objects(results: Iterable[Detections | Failure]) -> Iterator[Detections | Failure]:
    """Track objects through images that are the frames of one sequence."""
    tracker = Tracker()
    for result in results:
        if isinstance(result, Failure):
            yield result
        else:
            objects = number_objects(result.objects, tracker)
            yield TrackedDetections(result.path, result.width, result.height, objects)


# ---- Counting ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """The number of objects of each label in an image."""

    noun: ClassVar = "image"
    nothing: ClassVar[str | None] = ""  # the sentence about an image without objects
    columns: ClassVar = ["path", "label", "count"]

    path: str
    counts: dict[str, int]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, "label": k, "count": n} for k, n in self.counts.items()]


@dataclass(frozen=True)
class FrameCounts(Counts):
    """The number of objects of each label in a frame."""

    noun: ClassVar = "frame"
    nothing: ClassVar = None
    units: ClassVar = {"time": "s"}
    columns: ClassVar = ["path", "frame", "time", "label", "count"]

    frame: int
    time: float

    def rows(self) -> list[dict[str, Any]]:
        place = {"path": self.path, "frame": self.frame, "time": self.time}
        return [{**place, "label": k, "count": n} for k, n in self.counts.items()]


def count_objects(results: Iterable[Detections | Failure]) -> Iterator[Counts | Failure]:
    """Count the objects of each label, in alphabetical order."""
    for result in results:
        if isinstance(result, Failure):
            yield result
            continue
        counts = dict(sorted(Counter(found.label for found in result.objects).items()))
        if isinstance(result, Frame):
            yield FrameCounts(result.path, counts, result.frame, result.time)
        else:
            counted = Counts(result.path, counts)
            note_nothing(counted, result.nothing)
            yield counted


# ---- Crops ---------------------------------------------------------------------------------------


class Crops:
    """Image files of single objects, in a folder per label: data for `dlkit classify train`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, FileNames] = {}

    @classmethod
    def for_shard(cls, writer: ShardWriter | None, folder: Path) -> "Crops":
        """The crops of a shard; file names of results before a resume stay reserved."""
        if writer is None:
            return cls(folder)
        crops = cls(writer.folder(folder) or folder)
        for record in writer.records_so_far():
            labels = [own["label"] for own in record.get("objects", [])]
            for label in labels or Counter(record.get("counts", {})).elements():
                crops.names_for(label).reserve(record["path"], picture_suffix(record["path"]))
        return crops

    def names_for(self, label: str) -> FileNames:
        """The names of the files of a label; any label becomes the name of a subfolder."""
        if label not in self.names:
            self.names[label] = FileNames(self.folder / safe_name(label))
        return self.names[label]

    def save(self, picture: Image.Image, objects: Sequence[Object], name: str) -> None:
        """Save each object's crop of a picture; files are named after `name`."""
        for found in objects:
            left = min(math.floor(found.x1), picture.width - 1)
            top = min(math.floor(found.y1), picture.height - 1)
            right, bottom = math.ceil(found.x2), math.ceil(found.y2)
            box = (left, top, max(right, left + 1), max(bottom, top + 1))
            path = self.names_for(found.label).path_for(name, picture_suffix(name))
            images.save(picture.crop(box), path)
            note_saved(path)


def save_crops(
    results: Iterable[Detections | Failure], crops: Crops
) -> Iterator[Detections | Failure]:
    """Yield the results unchanged, and save a crop of each object."""

    def save(picture: Image.Image, result: Detections) -> None:
        crops.save(picture, result.objects, result.path)

    return with_pictures(results, save)
