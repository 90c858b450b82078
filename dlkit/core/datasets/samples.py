"""A data set as its files describe it: sources of samples, with their annotations.

Readers of layouts make these records, and the tasks, `dlkit data` and its converters take what they
need from them. Loads no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dlkit.core.io.colors import Color
from dlkit.core.ledger import Ledger

Box = tuple[float, float, float, float]
ALL = "all"  # the name of the only split of a source without splits


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A point in pixels of the upright image; `visibility` as in COCO: 0 missing, 1 hidden."""

    x: float
    y: float
    visibility: int = 2


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated object, as written in its file: the user of the record checks its geometry.

    `box` is x1, y1, x2, y2 in pixels of the upright image, None if the file gives none; `polygons`
    are lists x, y, x, y ... of corners, `rle` is COCO's record of a mask. `where` is its place: a
    file, and a line or an id. `flaw` is the reason why it lacks a label, a box or an outline,
    `pose_flaw` that why its keypoints cannot be used.
    """

    label: str
    where: str
    box: Box | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    rle: dict[str, Any] | None = None
    keypoints: tuple[Keypoint, ...] = ()
    area: float | None = None
    crowd: bool = False
    difficult: bool = False
    truncated: bool = False
    flaw: str = ""
    pose_flaw: str = ""

    @property
    def bounds(self) -> Box | None:
        """The box, or that around the polygons; None without both."""
        if self.box is not None or not any(len(corners) > 1 for corners in self.polygons):
            return self.box
        xs = [x for corners in self.polygons for x in corners[::2]]
        ys = [y for corners in self.polygons for y in corners[1::2]]
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its annotations in the data set.

    `size` is the width and height of the upright image in pixels, where the reader has measured it;
    `where` is the place of the sample in the data set's files. `labels` are those of the whole
    image; `mask` and `object_mask` are files.
    """

    path: Path
    where: str
    size: tuple[int, int] | None = None
    annotations: tuple[Annotation, ...] = ()
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    mask: Path | None = None
    object_mask: Path | None = None


@dataclass(frozen=True)
class Pose:
    """The keypoints of the objects of a class, which count from 0.

    `names` is empty where they have none; the skeleton is made of pairs that lines connect.
    `mirrored` has for each keypoint the one whose place it takes in a mirrored image: a left eye
    for a right one. It is None where the data set does not determine it.
    """

    count: int
    names: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    mirrored: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Classes:
    """The listed classes in their order, and their colors in masks where the data set has them.

    `names` is empty where none are listed. With `chosen` the list may be a choice of the classes
    that the annotations have. `poses` are the keypoints of the classes that have some.
    """

    names: tuple[str, ...] = ()
    colors: tuple[Color | None, ...] = field(default=())
    chosen: bool = False
    poses: Mapping[str, Pose] = field(default_factory=dict)


class Source(Protocol):
    """A data set in one layout, whose splits are read one at a time.

    `layout` is its name in messages. `splits` are the names of the splits: train, val and test
    where the data set has them under any of their spellings, others as they are spelled, or only
    `all`.
    """

    layout: str
    root: Path

    @property
    def classes(self) -> Classes: ...

    @property
    def splits(self) -> Sequence[str]: ...

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The samples of a split in their order, whose images exist and have been measured.

        The ledger counts what cannot be used and why: "images", and "annotations" that belong to no
        image. The caller counts what it uses, and annotations of images. Raises DlkitError for a
        file that is not understood.
        """
        ...
