"""Ground-truth masks: the class of each pixel of an image, or the pixels of each object.

Shapes: H x W pixels, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dlkit.core.datasets.coco import BAD_SEGMENTATION
from dlkit.core.datasets.samples import Annotation
from dlkit.core.errors import DlkitError
from dlkit.core.io.colors import Color
from dlkit.core.vision.images import BAD_FILE
from dlkit.segment.rle import MAX_PIXELS, decode

IGNORED = 255  # pixels without a class, which count in no loss and no metric
UNKNOWN = 254  # marks invalid values while a mask is read
UNCLEAR = -1  # no index, or no color
GRAY_CODE = 0x010101  # times a shade: the code of its color
WHITE = 255 * GRAY_CODE
MANY_VALUES = 16  # unknown values, above which a mask was probably compressed with losses
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
    red << 16 | green << 8 | blue, if the data set has a color table, which then decides.
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
    codes: dict[int, int] = {}
    for value, (name, color) in enumerate(entries):
        lookup[value] = indices.get(name, IGNORED)
        if color is not None:
            red, green, blue = color
            code, label = red << 16 | green << 8 | blue, indices.get(name, IGNORED)
            # A color of two classes decides nothing.
            codes[code] = label if codes.get(code, label) == label else UNKNOWN
    return ClassTable(labels, lookup, codes)


@dataclass(frozen=True)
class MaskFile:
    """The ground truth of an image in files: a mask, and optionally a mask of object ids."""

    path: Path
    classes: ClassTable
    objects_path: Path | None = None

    def mask(self) -> np.ndarray:
        """The class of each pixel (H, W), uint8. Raises BadMask."""
        stored = read_values(self.path)
        classes = stored.classes(self.classes)
        unknown = [place for place, known in enumerate(classes) if known == UNKNOWN]
        if unknown:
            if not self.classes.codes and UNCLEAR in stored.indices:
                raise BadMask("color mask without a color table in classes.txt", str(self.path))
            shown = stored.describe(unknown[0])
            if len(unknown) > MANY_VALUES:
                kind = "mask with many unknown values, as after compression as JPEG"
                raise BadMask(kind, f"{self.path} ({shown} and {len(unknown) - 1} more)")
            raise BadMask("mask with an unknown value", f"{self.path} ({shown})")
        mask: np.ndarray = np.array(classes, np.uint8)[stored.places]
        return mask

    def ignored(self) -> Counter[str]:
        """The number of pixels of each value that is ignored. Raises BadMask."""
        stored = read_values(self.path)
        counts = np.bincount(stored.places.reshape(-1), minlength=len(stored.indices)).tolist()
        return Counter(
            {
                stored.describe(place): counts[place]
                for place, known in enumerate(stored.classes(self.classes))
                if known == IGNORED
            }
        )

    def objects(self) -> list[ObjectMask]:
        """The objects, each of the most frequent class of its pixels. Raises BadMask."""
        if self.objects_path is None:
            raise BadMask("no object mask", str(self.path))
        mask = self.mask()
        ids = read_values(self.objects_path)
        if UNCLEAR in ids.indices or ids.places.shape != mask.shape:
            raise BadMask("object mask that does not fit its image", str(self.objects_path))
        objects = []
        for place, number in enumerate(ids.indices):
            inside = ids.places == place
            counts = np.bincount(mask[inside], minlength=256)[:IGNORED]
            # 0 is the background, 255 VOC's border between objects.
            if number not in (0, 255) and counts.any():
                objects.append(ObjectMask(int(counts.argmax()), inside, float(inside.sum())))
        return objects


@dataclass(frozen=True)
class StoredMask:
    """The different values of a mask's file, in ascending order, as indices and as colors.

    `places` (H, W) has the number of each pixel's value among them. `indices` are the values as
    class indices, `codes` their colors red << 16 | green << 8 | blue; UNCLEAR where there is none.
    """

    places: np.ndarray
    indices: list[int]
    codes: list[int]
    gray: bool  # all colors are gray, so that the values may be indices

    def classes(self, table: ClassTable) -> list[int]:
        """The class of each value: IGNORED, or UNKNOWN for a value that the table does not have.

        Colors decide where all of them are in the table, whatever the mode of the file; then
        indices, which an image of colors holds where red, green and blue are equal.
        """
        if table.codes:
            colors = [
                table.codes.get(code, IGNORED if index == IGNORED else UNKNOWN)
                for index, code in zip(self.indices, self.codes, strict=True)
            ]
            if UNKNOWN not in colors or not self.gray:
                return colors
        lookup = table.lookup.tolist()
        lookup[IGNORED] = table.codes.get(WHITE, IGNORED)
        return [lookup[index] if 0 <= index <= 255 else UNKNOWN for index in self.indices]

    def describe(self, place: int) -> str:
        """A value for messages: `color 128 0 0`, or `value 255`."""
        code = self.codes[place]
        if self.gray or code == UNCLEAR:
            return f"value {self.indices[place]}"
        return f"color {code >> 16} {code >> 8 & 255} {code & 255}"


def read_values(path: Path) -> StoredMask:
    """The values of a mask's file. Raises BadMask."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadMask(f"mask of more than {MAX_PIXELS} pixels", str(path))
            if image.format in {"JPEG", "MPO"}:
                raise BadMask("mask in JPEG, which changes its values; save it as PNG", str(path))
            mode, palette = image.mode, image.getpalette("RGB") if image.mode == "P" else None
            if mode == "1":
                values = np.asarray(image).astype(np.uint8)
            elif mode in {"L", "P"} or mode.startswith("I"):
                values = np.asarray(image)
            else:
                colors = np.asarray(image.convert("RGB")).astype(np.int64)
                values = colors @ np.array([1 << 16, 1 << 8, 1])
    except FileNotFoundError:
        raise BadMask("missing mask", str(path)) from None
    except BAD_FILE as error:
        raise BadMask("unreadable mask", str(path)) from error
    found, places = find_values(values)
    if values.dtype == np.int64:  # colors
        indices = [code & 255 if code == (code & 255) * GRAY_CODE else UNCLEAR for code in found]
        return StoredMask(places, indices, found, UNCLEAR not in indices)
    if palette:
        codes = [palette_code(palette, index) for index in found]
        gray = all(
            code in {UNCLEAR, index * GRAY_CODE} for index, code in zip(found, codes, strict=True)
        )
        return StoredMask(places, found, codes, gray)
    white = 255 if mode == "1" else 1
    codes = [n * white * GRAY_CODE if 0 <= n <= 255 else UNCLEAR for n in found]
    return StoredMask(places, found, codes, True)


def find_values(values: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The different values in ascending order, and each pixel's place among them (H, W)."""
    if values.dtype == np.uint8:  # much faster than sorting
        found = np.flatnonzero(np.bincount(values.reshape(-1), minlength=256))
        places = np.zeros(256, np.uint8)
        places[found] = np.arange(len(found))
        return found.tolist(), places[values]
    found, inverse = np.unique(values, return_inverse=True)
    return found.tolist(), inverse.reshape(values.shape)


def palette_code(palette: Sequence[int], index: int) -> int:
    """The color code of a palette's entry; UNCLEAR where it has none."""
    if 3 * index + 3 > len(palette):
        return UNCLEAR
    red, green, blue = palette[3 * index : 3 * index + 3]
    return red << 16 | green << 8 | blue


@dataclass(frozen=True)
class Outlines:
    """The ground truth of an image as outlined objects, each with its class index."""

    width: int
    height: int
    background: int
    annotations: list[tuple[int, Annotation]]

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
                mask = self.rasterize(annotation)
            except (DlkitError, TypeError, ValueError) as error:
                raise BadMask(BAD_SEGMENTATION, annotation.where) from error
            area = annotation.area or float(mask.sum())
            objects.append(ObjectMask(label, mask, area, annotation.crowd))
        return objects

    def rasterize(self, annotation: Annotation) -> np.ndarray:
        """The pixels (H, W) inside the polygons, or of the run-length code."""
        if annotation.rle is not None:
            mask = decode(annotation.rle)
            if mask.shape != (self.height, self.width):
                raise DlkitError("a mask of another size")
            return mask
        mask = np.zeros((self.height, self.width), bool)
        for points in annotation.polygons:
            mask |= fill_polygon(np.array(points).reshape(-1, 2), self.height, self.width)
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
