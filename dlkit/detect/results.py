"""What is made of detections: objects followed from frame to frame, counted, and cut out."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, picture_suffix
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.core.vision import images
from dlkit.detect.infer import Detections, Object, TrackedObject
from dlkit.detect.track import Tracker


@dataclass(frozen=True)
class Frame(Detections):
    """The objects of one frame of a video, which is so many seconds after the first."""

    columns: ClassVar = ["path", "frame", "time", *Detections.columns[1:]]

    frame: int
    time: float

    def rows(self) -> list[dict[str, Any]]:
        place = {"path": self.path, "frame": self.frame, "time": self.time}
        return [{**place, **vars(found)} for found in self.objects]


# ---- Objects that are followed -------------------------------------------------------------------


@dataclass(frozen=True)
class Tracked(Detections):
    """The objects of an image that is a frame of a sequence."""

    columns: ClassVar = [*Detections.columns, "track"]


@dataclass(frozen=True)
class TrackedFrame(Frame):
    """The objects of a frame of a video, with their numbers."""

    columns: ClassVar = [*Frame.columns, "track"]


def followed(found: Sequence[Object], tracker: Tracker) -> list[Object]:
    """The objects of the next frame that the tracker is sure of, with their numbers."""
    boxes = np.array([[o.x1, o.y1, o.x2, o.y2] for o in found]).reshape(-1, 4)
    numbers = tracker.update(boxes, [own.label for own in found])
    return [
        TrackedObject(**vars(own), track=number)
        for own, number in zip(found, numbers, strict=True)
        if number is not None
    ]


def follow(results: Iterable[Detections | Failure]) -> Iterator[Detections | Failure]:
    """The results of images that are the frames of one sequence, objects with their numbers."""
    tracker = Tracker()
    for result in results:
        if isinstance(result, Failure):
            yield result
        else:
            objects = followed(result.objects, tracker)
            yield Tracked(result.path, result.width, result.height, objects)


# ---- Objects that are counted --------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """How many objects of each label an image shows."""

    columns: ClassVar = ["path", "label", "count"]

    path: str
    counts: dict[str, int]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, "label": k, "count": n} for k, n in self.counts.items()]


@dataclass(frozen=True)
class FrameCounts(Counts):
    """How many objects of each label a frame shows."""

    columns: ClassVar = ["path", "frame", "time", "label", "count"]

    frame: int
    time: float

    def rows(self) -> list[dict[str, Any]]:
        place = {"path": self.path, "frame": self.frame, "time": self.time}
        return [{**place, "label": k, "count": n} for k, n in self.counts.items()]


def counted(results: Iterable[Detections | Failure]) -> Iterator[Counts | Failure]:
    """The numbers of objects, labels in alphabetical order."""
    for result in results:
        if isinstance(result, Failure):
            yield result
            continue
        counts = dict(sorted(Counter(found.label for found in result.objects).items()))
        if isinstance(result, Frame):
            yield FrameCounts(result.path, counts, result.frame, result.time)
        else:
            yield Counts(result.path, counts)


# ---- Objects that are cut out --------------------------------------------------------------------


class Crops:
    """A file for each object, in a folder of its label: data that `dlkit classify` trains on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, FileNames] = {}

    @classmethod
    def of(cls, writer: ShardWriter | None, folder: Path) -> "Crops":
        """Those of a part of a command, whose results so far had theirs."""
        if writer is None:
            return cls(folder)
        crops = cls(writer.folder(folder) or folder)
        for record in writer.records_so_far():
            labels = [own["label"] for own in record.get("objects", [])]
            for label in labels or Counter(record.get("counts", {})).elements():
                crops.path_for(label, record["path"])
        return crops

    def path_for(self, label: str, name: str) -> Path:
        """The next object's file; a label is any text, and names a folder here and none else."""
        label = label.replace("/", "_").replace("\\", "_").strip(". ") or "_"
        names = self.names.setdefault(label, FileNames(self.folder / label))
        return names.path_for(name, picture_suffix(name))

    def save(self, picture: Image.Image, objects: Sequence[Object], name: str) -> None:
        """Cut the objects out of a picture, which gives the files their name."""
        for found in objects:
            left = min(math.floor(found.x1), picture.width - 1)
            top = min(math.floor(found.y1), picture.height - 1)
            right, bottom = math.ceil(found.x2), math.ceil(found.y2)
            box = (left, top, max(right, left + 1), max(bottom, top + 1))
            images.save(picture.crop(box), self.path_for(found.label, name))


def save_crops(
    results: Iterable[Detections | Failure], crops: Crops
) -> Iterator[Detections | Failure]:
    """The results unchanged, while each object is cut out of its image."""
    for result in results:
        if isinstance(result, Detections) and result.objects and is_main_process():
            try:
                picture = images.as_pillow(images.read(result.path))
            except DlkitError as error:  # a URL may fail the second time
                yield Failure(result.path, str(error))
                continue
            crops.save(picture, result.objects, result.path)
        yield result
