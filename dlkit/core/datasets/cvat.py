"""CVAT's XML for images, version 1.1: one file for all images. Loads no torch.

annotations.xml, and the images that it names, in images/ or beside it
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from dlkit.core.datasets.pictures import checked
from dlkit.core.datasets.samples import ALL, Annotation, Box, Classes, Sample
from dlkit.core.datasets.texts import refuse_entities
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io.files import is_file
from dlkit.core.io.splits import split_of
from dlkit.core.ledger import Ledger

ANNOTATIONS = "annotations.xml"
SHAPES = {"box", "polygon", "mask", "polyline", "points", "ellipse", "cuboid", "skeleton"}
Attributes = Mapping[str, str]


class Cvat:
    """The images of an annotations.xml; a split is a subset of a project."""

    layout = "CVAT for images"

    def __init__(self, data: Path) -> None:
        self.root = data.parent if data.is_file() else data
        self.file = data if data.is_file() else data / ANNOTATIONS
        self.tree = parse(self.file)
        self.images: dict[str, list[Any]] = {}
        for image in self.tree.iter("image"):
            subset = image.get("subset", "").strip()
            self.images.setdefault(split_of(subset) or subset or ALL, []).append(image)
        if ALL in self.images and len(self.images) > 1:
            raise DlkitError(
                f"{len(self.images[ALL]):,} images have no subset, and others have one", self.file
            )

    @property
    def classes(self) -> Classes:
        """The labels of the task or project in their order."""
        names = (name.text or "" for name in self.tree.iterfind("meta//labels/label/name"))
        return Classes(tuple(dict.fromkeys(name.strip() for name in names if name.strip())))

    @property
    def splits(self) -> Sequence[str]:
        """The subsets."""
        return list(self.images)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a subset with their objects."""
        samples = []
        names: dict[str, str] = {}
        for image in self.images[split]:
            name = image.get("name", "").replace("\\", "/")
            where = f"{self.file}: image {image.get('id', name)}"
            if not name:
                ledger.skip("images", "image without a name", where)
                continue
            if name in names:
                raise DlkitError(f"{name} is listed twice", where)
            names[name] = where
            size = image_size(image)
            objects = tuple(annotations(image, size, f"{self.file}: {name}"))
            tags = tuple(tag.get("label", "") for tag in image.iterfind("tag"))
            samples.append(Sample(self.path(name), where, size, objects, tags))
        return checked(samples, ledger)

    def path(self, name: str) -> Path:
        """The path of an image."""
        plain = name.rsplit("/", 1)[-1]
        folders = [self.root / "images", self.root, self.root / "data"]
        paths = [folder / spelling for spelling in (name, plain) for folder in folders]
        return next((path for path in paths if is_file(path)), paths[0])


def parse(file: Path) -> Any:
    """The root element of CVAT's XML for images. Raises DlkitError for another file."""
    try:
        content = file.read_bytes()
        refuse_entities(content, file)
        root = ElementTree.fromstring(content)
    except (OSError, ValueError) as error:
        raise DlkitError(os_reason(error), file) from None
    except ElementTree.ParseError as error:
        raise DlkitError(f"not well-formed XML ({error})", file) from None
    if root.tag != "annotations":
        raise DlkitError("not CVAT's XML: its element is not `annotations`", file)
    if root.find("track") is not None:
        raise DlkitError("CVAT for video is not read; export CVAT for images 1.1", file)
    return root


def image_size(image: Any) -> tuple[int, int] | None:
    """The declared width and height."""
    width, height = image.get("width", ""), image.get("height", "")
    return (int(width), int(height)) if width.isdecimal() and height.isdecimal() else None


def annotations(image: Any, size: tuple[int, int] | None, where: str) -> Iterator[Annotation]:
    """The objects of an image."""
    for number, shape in enumerate((e for e in image if e.tag in SHAPES), 1):
        place = f"{where}: {shape.tag} {number}"
        label = shape.get("label", "").strip()
        try:
            box, polygons, rle = outline(shape.tag, shape.attrib, size)
            flaw = "" if label else f"{shape.tag} without a label"
        except DlkitError as error:
            box, polygons, rle, flaw = None, (), None, error.reason
        except (KeyError, ValueError):
            box, polygons, rle, flaw = None, (), None, f"{shape.tag} with missing or odd numbers"
        yield Annotation(label, place, box, polygons, rle, flaw=flaw)


def outline(
    tag: str, values: Attributes, size: tuple[int, int] | None
) -> tuple[Box | None, tuple[tuple[float, ...], ...], dict[str, Any] | None]:
    """The box, the polygon or the run-length code of a shape. Raises DlkitError for others."""
    if tag == "box":
        x1, y1, x2, y2 = (number(values[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        angle = number(values.get("rotation", "0"))
        if angle % 360 == 0:
            return (x1, y1, x2, y2), (), None
        return None, (rotated((x1, y1, x2, y2), math.radians(angle)),), None
    if tag == "polygon":
        points = tuple(number(v) for p in values["points"].split(";") for v in p.split(","))
        if len(points) < 6 or len(points) % 2:
            raise DlkitError("polygon of fewer than three corners")
        return None, (points,), None
    if tag == "mask":
        if size is None:
            raise DlkitError("mask of an image without width and height")
        left, top, width, height = (
            int(number(values[name])) for name in ("left", "top", "width", "height")
        )
        box = (float(left), float(top), float(left + width), float(top + height))
        return box, (), run_lengths(values["rle"], (left, top, width, height), size)
    raise DlkitError(f"{tag}, which is neither a box, a polygon nor a mask")


def number(text: str) -> float:
    """A finite number. Raises ValueError for another text."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def rotated(box: Box, angle: float) -> tuple[float, ...]:
    """The corners of a box turned clockwise around its center by an angle in radians."""
    x1, y1, x2, y2 = box
    x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((-w, -h), (w, -h), (w, h), (-w, h))
    return tuple(v for a, b in corners for v in (x + a * cos - b * sin, y + a * sin + b * cos))


def run_lengths(
    text: str, place: tuple[int, int, int, int], size: tuple[int, int]
) -> dict[str, Any]:
    """COCO's run-length code of the image, of the runs of a part of it, row by row from 0."""
    left, top, width, height = place
    counts = [int(part) for part in text.split(",")]
    inside = left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]
    if min(counts) < 0 or sum(counts) != width * height or not inside:
        raise ValueError(text)
    runs = np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, width)
    mask = np.zeros((size[1], size[0]), np.int8)
    mask[top : top + height, left : left + width] = runs
    flat = mask.reshape(-1, order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    lengths = np.diff([0, *changes.tolist(), flat.size])
    return {"size": [size[1], size[0]], "counts": lengths.tolist()}
