"""Ground-truth masks: the class of each pixel of an image, or the pixels of each object.

Shapes: H x W pixels, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.io.colors import Color
from dlkit.core.vision.images import BAD_FILE
from dlkit.segment.rle import decode

IGNORED = 255  # pixels without a class, which count in no loss and no metric
UNKNOWN = 254  # marks invalid values while a mask is read
MAX_CLASSES = 254
IGNORED_NAMES = {"void", "ignore", "ignored", "unlabeled", "unlabelled"}
BACKGROUND = "background"


class BadMask(DlkitError):
    """A problem with one mask: its kind and location."""

    def __init__(self, kind: str, where: str) -> None:
        super().__init__(f"{kind}: {where}")
        self.kind, self.where = kind, where


@dataclass(frozen=True)
class ClassTable:
    """The classes that the values in a data set's masks represent.

    `lookup` (256,) maps each index to its class, IGNORED or UNKNOWN; `codes` does so for the colors
    red << 16 | green << 8 | blue, if the data set has a color table.
    """

    labels: list[str]
    lookup: np.ndarray
    codes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectMask:
    """One annotated object: its boolean mask (H, W), and its area as annotated."""

    label: int
    mask: np.ndarray
    area: float
    crowd: bool = False


def make_class_table(
    entries: Sequence[tuple[str, Color | None]], labels: list[str] | None, ignored: Sequence[int]
) -> ClassTable:
    """The class table of masks whose indices number the entries: names, optionally with a color.

    `labels` fixes the classes and their order; all other classes are ignored.
    """
    if labels is None:
        labels = [name for name, _ in entries if name.lower() not in IGNORED_NAMES]
    if len(entries) > MAX_CLASSES:
        raise DlkitError(f"{len(entries)} classes: at most {MAX_CLASSES} fit in a mask")
    indices = {label: index for index, label in enumerate(labels)}
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[[IGNORED, *ignored]] = IGNORED
    codes = {}
    for value, (name, color) in enumerate(entries):
        lookup[value] = indices.get(name, IGNORED)
        if color is not None:
            red, green, blue = color
            codes[red << 16 | green << 8 | blue] = indices.get(name, IGNORED)
    return ClassTable(labels, lookup, codes)


@dataclass(frozen=True)
class MaskFile:
    """The ground truth of an image in files: a mask, and optionally a mask of object ids."""

    path: Path
    classes: ClassTable
    objects_path: Path | None = None

    def mask(self) -> np.ndarray:
        """The class of each pixel (H, W), uint8. Raises BadMask."""
        values, colored = read_values(self.path)
        if colored:
            if not self.classes.codes:
                raise BadMask("color mask without a color table in classes.txt", str(self.path))
            codes, inverse = np.unique(values, return_inverse=True)
            known = [self.classes.codes.get(int(code), UNKNOWN) for code in codes]
            mask = np.array(known, np.uint8)[inverse.reshape(values.shape)]
        else:
            # Values outside the table are mapped to 254, which no class has.
            inside = (values >= 0) & (values <= 255)
            mask = self.classes.lookup[np.where(inside, values, UNKNOWN)]
        if (mask == UNKNOWN).any():
            value = values[mask == UNKNOWN][0]
            shown = f"color {value >> 16} {value >> 8 & 255} {value & 255}" if colored else value
            raise BadMask("mask with an unknown value", f"{self.path} ({shown})")
        return mask

    def objects(self) -> list[ObjectMask]:
        """The objects, each of the most frequent class of its pixels. Raises BadMask."""
        if self.objects_path is None:
            raise BadMask("no object mask", str(self.path))
        mask = self.mask()
        ids, colored = read_values(self.objects_path)
        if colored or ids.shape != mask.shape:
            raise BadMask("object mask that does not fit its image", str(self.objects_path))
        objects = []
        for number in np.unique(ids):
            inside = ids == number
            counts = np.bincount(mask[inside], minlength=256)[:IGNORED]
            # 0 is the background, 255 VOC's border between objects.
            if number not in (0, 255) and counts.any():
                objects.append(ObjectMask(int(counts.argmax()), inside, float(inside.sum())))
        return objects


def read_values(path: Path) -> tuple[np.ndarray, bool]:
    """The values (H, W) of an image file and False, or its color codes and True."""
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
    """The ground truth of an image in a COCO JSON: pairs of a class index and an annotation."""

    width: int
    height: int
    background: int
    annotations: list[tuple[int, dict[str, Any]]]

    def mask(self) -> np.ndarray:
        """The class of each pixel (H, W), uint8; smaller objects are in front."""
        mask = np.full((self.height, self.width), self.background, np.uint8)
        for thing in sorted(self.objects(), key=lambda thing: -thing.area):
            mask[thing.mask] = thing.label
        return mask

    def objects(self) -> list[ObjectMask]:
        """The objects in the order of the annotations. Raises BadMask."""
        objects = []
        for label, annotation in self.annotations:
            try:
                mask = self.rasterize(annotation["segmentation"])
                area = float(annotation.get("area") or mask.sum())
            except (DlkitError, TypeError, ValueError) as error:
                raise BadMask("bad segmentation", f"annotation {annotation.get('id')}") from error
            objects.append(ObjectMask(label, mask, area, bool(annotation.get("iscrowd", 0))))
        return objects

    def rasterize(self, segmentation: Any) -> np.ndarray:
        """The pixels (H, W) inside a list of polygons, or of a run-length code."""
        if isinstance(segmentation, dict):
            mask = decode(segmentation)
            if mask.shape != (self.height, self.width):
                raise DlkitError("a mask of another size")
            return mask
        mask = np.zeros((self.height, self.width), bool)
        for points in segmentation:
            corners = np.array(points, float).reshape(-1, 2)
            if not np.isfinite(corners).all():
                raise ValueError("a corner that is not finite")
            mask |= fill_polygon(corners, self.height, self.width)
        return mask


def fill_polygon(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels (H, W) with centers in a polygon of corners x, y (N, 2), by the even-odd rule."""
    crossings = np.zeros((height, width + 1), np.int64)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, height)) for y in sorted((y1, y2)))
        rows = np.arange(first, last)
        if len(rows):
            x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] += 1
    inside: np.ndarray = crossings.cumsum(axis=1)[:, :-1] % 2 == 1
    return inside
