"""Readers of boxes in three layouts, which are recognized by their files.

    Pascal VOC   Annotations/ID.xml, JPEGImages/ID.jpg, ImageSets/Main/SPLIT.txt; classes.txt if any
    COCO         annotations/*SPLIT*.json or SPLIT/_annotations.coco.json, and the images it names
    YOLO         data.yaml or classes.txt, images/SPLIT/ and labels/SPLIT/ (or SPLIT/images/ ...)

Boxes are x1, y1, x2, y2 in pixels of the upright image.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import yaml

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io import coco
from dlkit.core.io.image_files import is_image, with_image_suffix
from dlkit.core.io.labels import read_class_names
from dlkit.core.io.text import lines
from dlkit.core.progress import track
from dlkit.core.vision import images

NO_BOX = (1.0, 1.0, 0.0, 0.0)  # for a box that cannot be read; it has no area


@dataclass(frozen=True)
class ImageFile:
    """An image file, and the size of the upright image in pixels."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class BoxSample(ImageFile):
    """An image and its boxes (N, 4), with labels, areas and flags (N,).

    `crowd` boxes are not trained on; `areas` are COCO's areas of segments, otherwise the boxes'.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class Annotation:
    """A box as read from a file: its label's name, and its place in the file."""

    label: str
    box: tuple[float, float, float, float]
    where: str
    area: float | None = None
    crowd: bool = False
    difficult: bool = False


@dataclass(frozen=True)
class AnnotatedSplit:
    """One split of a data set."""

    samples: list[BoxSample]
    labels: list[str]
    skipped: Skipped


# The listed classes, and each image with its annotations.
Listing = tuple[list[str], list[tuple[Path, list[Annotation]]]]


def read_split(data: Path, split: str, labels: list[str] | None = None) -> AnnotatedSplit:
    """Read the images and boxes of one split; `labels` fixes the classes and their order.

    Bad annotations (a box outside its image or without area, an unknown class, a missing image)
    are skipped, counted and reported. Raises DlkitError if the layout is none of the three.
    """
    if not data.exists():
        raise DlkitError("no such folder", data)
    skipped = Skipped()
    names, images_of_split = find_reader(data)(data, split, skipped)
    with ThreadPoolExecutor() as pool:
        measured = pool.map(lambda entry: (*entry, measure_image(entry[0])), images_of_split)
        found = list(track(measured, f"checking {split}", len(images_of_split)))
    if not found:
        raise DlkitError(f"the split {split!r} names no image; check its list", data)
    seen = {annotation.label for _, annotations, _ in found for annotation in annotations}
    labels = labels or names or sorted(seen - {""})
    index = {label: number for number, label in enumerate(labels)}
    samples = [
        make_sample(path, annotations, size, index, skipped)
        for path, annotations, size in found
        if usable(path, size, skipped)
    ]
    if not samples:
        raise DlkitError(f"none of the {len(found)} images of {split!r} can be read", data)
    skipped.report()
    return AnnotatedSplit(samples, labels, skipped)


def find_reader(data: Path) -> Callable[[Path, str, Skipped], Listing]:
    """The reader of the folder's layout."""
    if (data / "Annotations").is_dir() and (data / "ImageSets").is_dir():
        return read_voc
    if (data / "labels").is_dir() or next(data.glob("*/labels"), None):
        return read_yolo
    if data.suffix == ".json" or next(coco.json_files(data), None):
        return read_coco
    raise DlkitError(
        "no training data in a known layout; VOC has Annotations/ and ImageSets/, COCO"
        " annotations/*.json, YOLO images/ and labels/ (see `dlkit docs detect`)",
        data,
    )


def measure_image(path: Path) -> tuple[int, int] | str:
    """Width and height of an image, or the reason why it cannot be used."""
    if not path.exists():
        return "missing image"
    try:
        return images.size(path)
    except DlkitError:
        return "unreadable image"


def usable(path: Path, size: tuple[int, int] | str, skipped: Skipped) -> bool:
    if isinstance(size, str):
        skipped.add(size, str(path))
        return False
    return True


def make_sample(
    path: Path,
    annotations: list[Annotation],
    size: Any,
    index: dict[str, int],
    skipped: Skipped,
) -> BoxSample:
    """A sample of the valid annotations, with boxes clipped to the image."""
    width, height = size
    kept = []
    for annotation in annotations:
        x1, y1, x2, y2 = annotation.box
        inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        if annotation.label not in index:
            skipped.add("unknown class", f"{annotation.where} ({annotation.label})")
        elif not (x2 > x1 and y2 > y1):  # also true of NaN
            skipped.add("box without area", annotation.where)
        elif not (inside[2] > inside[0] and inside[3] > inside[1]):
            skipped.add("box outside the image", annotation.where)
        else:
            kept.append((annotation, inside))
    return BoxSample(
        path,
        width,
        height,
        np.array([box for _, box in kept], dtype=np.float32).reshape(-1, 4),
        np.array([index[a.label] for a, _ in kept], dtype=np.int64),
        np.array(
            [box_area(box) if a.area is None else a.area for a, box in kept], dtype=np.float64
        ),
        np.array([a.crowd for a, _ in kept], dtype=bool),
        np.array([a.difficult for a, _ in kept], dtype=bool),
    )


def box_area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def list_splits(data: Path) -> list[str]:
    """The names of the splits of a VOC folder."""
    return sorted(path.stem for path in (data / "ImageSets" / "Main").glob("*.txt"))


def read_voc(data: Path, split: str, skipped: Skipped) -> Listing:
    list_file = data / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.exists():
        raise DlkitError(f"no split {split!r}; choose from {', '.join(list_splits(data))}", data)
    ids = [line.split()[0] for line in lines(str(list_file)) if line.strip()]
    entries = []
    for name in ids:
        xml = data / "Annotations" / f"{name}.xml"
        entries.append(
            (
                with_image_suffix(data / "JPEGImages" / name),
                voc_objects(xml) if xml.exists() else [],
            )
        )
    return class_names(data), entries


def voc_objects(xml: Path) -> list[Annotation]:
    """Read the objects of a VOC file, whose boxes count pixels from 1 and include both ends."""
    found: list[Annotation] = []
    path: list[str] = []
    values: dict[str, str] = {}
    line = 0
    parser = expat.ParserCreate()

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal line
        path.append(name)
        if path[1:] == ["object"]:
            values.clear()
            line = parser.CurrentLineNumber

    def text(content: str) -> None:
        # Parts (head, hand) and attributes have their own names and boxes, one level deeper.
        if path[1:-1] in (["object"], ["object", "bndbox"]):
            values[path[-1]] = values.get(path[-1], "") + content

    def end(name: str) -> None:
        path.pop()
        if name == "object" and len(path) == 1:
            where = f"{xml}:{line}"
            try:
                x1, y1, x2, y2 = (float(values[k]) for k in ("xmin", "ymin", "xmax", "ymax"))
            except (KeyError, ValueError):
                x1, y1, x2, y2 = NO_BOX
            difficult = values.get("difficult", "0").strip() == "1"
            label = values.get("name", "").strip()
            found.append(Annotation(label, (x1 - 1, y1 - 1, x2, y2), where, difficult=difficult))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(xml.read_bytes(), True)
    except expat.ExpatError as error:
        raise DlkitError(f"not well-formed XML ({error})", f"{xml}:{error.lineno}") from error
    except (LookupError, ValueError) as error:
        raise DlkitError(f"cannot be read ({error})", xml) from error
    return found


def read_coco(data: Path, split: str, skipped: Skipped) -> Listing:
    file = coco.annotation_file(data, split)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {c["id"]: c["name"] for c in content["categories"]}
        annotations: dict[int, list[Annotation]] = {image["id"]: [] for image in content["images"]}
        for a in content["annotations"]:
            where = f"{file}: annotation {a.get('id')}"
            if a["image_id"] not in annotations:
                skipped.add("annotation of no image", where)
                continue
            annotation = Annotation(
                names.get(a["category_id"], f"id {a['category_id']}"),
                coco_box(a["bbox"]),
                where,
                area=float(a["area"]) if a.get("area") is not None else None,
                crowd=bool(a.get("iscrowd", 0)),
            )
            annotations[a["image_id"]].append(annotation)
        entries = [
            (coco.image_path(data, file, split, image["file_name"]), annotations[image["id"]])
            for image in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DlkitError(f"not a COCO file ({type(error).__name__}: {error})", file) from error
    return list(names.values()), entries


def coco_box(values: Any) -> tuple[float, float, float, float]:
    """Corners from x, y, width, height; NO_BOX for invalid values."""
    try:
        x, y, width, height = map(float, values)
    except (TypeError, ValueError):
        return NO_BOX
    return x, y, x + width, y + height


def read_yolo(data: Path, split: str, skipped: Skipped) -> Listing:
    names = class_names(data)
    pairs = []
    for spelling in (split, "valid") if split == "val" else (split,):
        pairs.append((data / "images" / spelling, data / "labels" / spelling))
        pairs.append((data / spelling / "images", data / spelling / "labels"))
    if split == "train":
        pairs.append((data / "images", data / "labels"))
    folder, labels = next((pair for pair in pairs if pair[0].is_dir()), pairs[0])
    if not folder.is_dir():
        raise DlkitError(
            f"no split {split!r}; it has neither {pairs[0][0]} nor {pairs[1][0]}", data
        )
    entries = []
    for image in sorted(path for path in folder.rglob("*") if is_image(path)):
        txt = labels / image.relative_to(folder).with_suffix(".txt")
        entries.append((image, yolo_objects(txt, image, names) if txt.exists() else []))
    pictures = {image.relative_to(folder).with_suffix("") for image, _ in entries}
    for txt in sorted(labels.rglob("*.txt")):
        if txt.relative_to(labels).with_suffix("") not in pictures and txt.stem != "classes":
            entries.append((folder / txt.relative_to(labels).with_suffix(".jpg"), []))
    return names, entries


def yolo_objects(txt: Path, image: Path, names: list[str]) -> list[Annotation]:
    """Read lines of `class x y width height`: center and size as fractions of the image."""
    size = measure_image(image)
    if isinstance(size, str):
        return []
    found = []
    for number, line in enumerate(lines(str(txt)), 1):
        if not line.strip():
            continue
        where = f"{txt}:{number}"
        try:
            label, *values = (float(value) for value in line.split())
            x1, y1, x2, y2 = yolo_box(values)
        except ValueError:
            found.append(Annotation("", NO_BOX, where))
            continue
        name = names[int(label)] if 0 <= label < len(names) else line.split()[0]
        box = (x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1])
        found.append(Annotation(name, box, where))
    return found


def yolo_box(values: list[float]) -> tuple[float, float, float, float]:
    """Corners from center and size (a confidence may follow), or around a polygon's points."""
    if len(values) > 5:
        return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    x, y, w, h = values[:4]
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def class_names(data: Path) -> list[str]:
    """The classes listed in data.yaml or classes.txt; empty if both are missing."""
    for folder in (data, data / "labels"):
        if listed := read_class_names(folder):
            return listed
    for file in sorted(data.glob("*.y*ml"), key=lambda file: (file.stem != "data", file)):
        try:
            names = yaml.safe_load(file.read_text(encoding="utf-8"))["names"]
            if isinstance(names, dict):
                names = [names[number] for number in sorted(names)]
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
            names = None
        if not isinstance(names, list) or not names:
            raise DlkitError("no list of class names under `names:`", file)
        return [str(name) for name in names]
    return []
