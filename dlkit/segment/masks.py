"""Masks: a class for each pixel of an image, or the pixels of each object in it.

Shapes: H x W pixels, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.vision.images import BAD_FILE
from dlkit.segment.rle import decode

IGNORED = 255  # pixels of no class: they count in no loss and no score
UNKNOWN = 254  # while a mask is read
MOST_CLASSES = 254
NO_CLASS = {"void", "ignore", "ignored", "unlabeled", "unlabelled"}
BACKGROUND = "background"

Color = tuple[int, int, int]


class BadMask(DlkitError):
    """What is wrong with one mask: its kind, and where it is."""

    def __init__(self, kind: str, where: str) -> None:
        super().__init__(f"{kind}: {where}")
        self.kind, self.where = kind, where


@dataclass(frozen=True)
class Classes:
    """What the values in the masks of a data set mean.

    `lookup` (256,) gives the class of each index, IGNORED or UNKNOWN; `codes` likewise those of
    the colors red << 16 | green << 8 | blue, where the data has a table of them.
    """

    labels: list[str]
    lookup: np.ndarray
    codes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Object:
    """One object in an image: mask (H, W) of bool, and its area by the annotation."""

    label: int
    mask: np.ndarray
    area: float
    crowd: bool = False


def classes_of(
    entries: Sequence[tuple[str, Color | None]], labels: list[str] | None, ignored: Sequence[int]
) -> Classes:
    """The meaning of masks whose indices count these names, some perhaps with a color.

    `labels` fixes the classes and their order: those it does not have are ignored.
    """
    named = [name for name, _ in entries if name.lower() not in NO_CLASS]
    labels = named if labels is None else labels
    if len(entries) > MOST_CLASSES:
        raise DlkitError(f"{len(entries)} classes: at most {MOST_CLASSES} fit in a mask")
    places = {label: place for place, label in enumerate(labels)}
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[[IGNORED, *ignored]] = IGNORED
    codes = {}
    for index, (name, color) in enumerate(entries):
        lookup[index] = places.get(name, IGNORED)
        if color is not None:
            red, green, blue = color
            codes[red << 16 | green << 8 | blue] = places.get(name, IGNORED)
    return Classes(labels, lookup, codes)


@dataclass(frozen=True)
class MaskFile:
    """The truth of an image in files: a mask, and perhaps one with a number for each object."""

    path: Path
    classes: Classes
    objects_path: Path | None = None

    def mask(self) -> np.ndarray:
        """The class of each pixel (H, W), uint8. Raises BadMask."""
        values, colored = read_values(self.path)
        if colored:
            if not self.classes.codes:
                raise BadMask("color mask without a table of colors", str(self.path))
            codes, places = np.unique(values, return_inverse=True)
            known = [self.classes.codes.get(int(code), UNKNOWN) for code in codes]
            mask = np.array(known, np.uint8)[places.reshape(values.shape)]
        else:
            # What is beyond the table is as unknown as 254, which no class has.
            inside = (values >= 0) & (values <= 255)
            mask = self.classes.lookup[np.where(inside, values, UNKNOWN)]
        if (mask == UNKNOWN).any():
            value = values[mask == UNKNOWN][0]
            said = f"color {value >> 16} {value >> 8 & 255} {value & 255}" if colored else value
            raise BadMask("mask with an unknown value", f"{self.path} ({said})")
        return mask

    def objects(self) -> list[Object]:
        """The objects, each of the class that most of its pixels have. Raises BadMask."""
        if self.objects_path is None:
            raise BadMask("no mask of objects", str(self.path))
        mask = self.mask()
        numbers, colored = read_values(self.objects_path)
        if colored or numbers.shape != mask.shape:
            raise BadMask("mask of objects that does not fit", str(self.objects_path))
        found = []
        for number in np.unique(numbers):
            own = numbers == number
            counts = np.bincount(mask[own], minlength=256)[:IGNORED]
            # 0 is what belongs to no object, 255 VOC's borders between them.
            if number not in (0, 255) and counts.any():
                found.append(Object(int(counts.argmax()), own, float(own.sum())))
        return found


def read_values(path: Path) -> tuple[np.ndarray, bool]:
    """The numbers (H, W) in a file, or its colors as codes and True."""
    try:
        with Image.open(path) as image:
            if image.mode in {"1", "L", "P"} or image.mode.startswith("I"):
                return np.asarray(image).astype(np.int64), False
            colors = np.asarray(image.convert("RGB")).astype(np.int64)
    except FileNotFoundError:
        raise BadMask("missing mask", str(path)) from None
    except BAD_FILE as error:
        raise BadMask("unreadable mask", str(path)) from error
    return colors @ np.array([1 << 16, 1 << 8, 1]), True


@dataclass(frozen=True)
class CocoTruth:
    """The annotations of an image in a COCO json, by the class that each has here."""

    width: int
    height: int
    background: int
    annotations: list[tuple[int, dict[str, Any]]]

    def mask(self) -> np.ndarray:
        """The class of each pixel (H, W), uint8; the smaller object is in front."""
        mask = np.full((self.height, self.width), self.background, np.uint8)
        for found in sorted(self.objects(), key=lambda found: -found.area):
            mask[found.mask] = found.label
        return mask

    def objects(self) -> list[Object]:
        """The objects, as they are listed. Raises BadMask."""
        found = []
        for label, annotation in self.annotations:
            try:
                mask = self.filled(annotation["segmentation"])
                area = float(annotation.get("area") or mask.sum())
            except (DlkitError, TypeError, ValueError) as error:
                raise BadMask("bad segmentation", f"annotation {annotation.get('id')}") from error
            found.append(Object(label, mask, area, bool(annotation.get("iscrowd", 0))))
        return found

    def filled(self, form: Any) -> np.ndarray:
        """The pixels (H, W) in a list of polygons, or of run lengths."""
        if isinstance(form, dict):
            mask = decode(form)
            if mask.shape != (self.height, self.width):
                raise DlkitError("a mask of another size")
            return mask
        mask = np.zeros((self.height, self.width), bool)
        for points in form:
            corners = np.array(points, float).reshape(-1, 2)
            if not np.isfinite(corners).all():
                raise ValueError("a corner that is no number")
            mask |= filled_polygon(corners, self.height, self.width)
        return mask


def filled_polygon(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels (H, W) whose centers lie in a polygon of corners x, y (N, 2), by even and odd."""
    crossings = np.zeros((height, width + 1), np.int64)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, height)) for y in sorted((y1, y2)))
        rows = np.arange(first, last)
        if len(rows):
            x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] += 1
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1
