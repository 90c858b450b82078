"""Reading boxes in the three usual layouts, and making training batches of them.

    Pascal VOC   Annotations/ID.xml, JPEGImages/ID.jpg, ImageSets/Main/SPLIT.txt; classes.txt if any
    COCO         annotations/*SPLIT*.json or SPLIT/_annotations.coco.json, and the images it names
    YOLO         data.yaml or classes.txt, images/SPLIT/ and labels/SPLIT/ (or SPLIT/images/ ...)

Which one it is, is seen from the files. Boxes are x1, y1, x2, y2 in pixels of the image as shown.
"""

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.core import images
from dlkit.core.errors import DlkitError
from dlkit.core.progress import log, track
from dlkit.detect.config import DetectTrainConfig

GREY = 114  # the border around images that do not fill the square
SHOWN = 3  # bad annotations of a kind that are named on the terminal
MOST_IN_MEMORY = 4_000_000_000  # bytes of decoded training images that are kept


@dataclass(frozen=True)
class Sample:
    """An image and its boxes (N, 4), their areas, labels and marks (N,).

    `crowd` boxes are left out of training; `areas` are COCO's of the segments, else the boxes'.
    """

    path: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class Annotation:
    """One box as a file has it: its label's name, and where it stands there."""

    label: str
    box: tuple[float, float, float, float]
    where: str
    area: float | None = None
    crowd: bool = False
    difficult: bool = False


@dataclass
class Skipped:
    """Bad annotations: counted by kind, named by place."""

    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        self.places.setdefault(kind, []).append(where)

    def report(self) -> None:
        for kind, places in self.places.items():
            more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            log(f"skipped {len(places)} x {kind}: {', '.join(places[:SHOWN])}{more}")

    def lines(self) -> list[str]:
        return [f"{kind}\t{place}" for kind, places in self.places.items() for place in places]


@dataclass(frozen=True)
class Annotated:
    """One split of a data set."""

    samples: list[Sample]
    labels: list[str]
    skipped: Skipped


def read_split(data: Path, split: str, labels: list[str] | None = None) -> Annotated:
    """The images and boxes of one split; `labels` fixes the classes and their order.

    Bad annotations (a box outside its image or without area, an unknown class, a missing image)
    are skipped, counted and named. Raises DlkitError when the layout is none of the three.
    """
    if not data.exists():
        raise DlkitError(f"{data}: no such folder")
    names, images_of_split = layout(data)(data, split)
    skipped = Skipped()
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda entry: (*entry, measured(entry[0])), images_of_split))
    if not found:
        raise DlkitError(f"{data}: the split {split!r} names no image")
    labels = (
        labels or names or sorted({a.label for _, annotations, _ in found for a in annotations})
    )
    index = {label: number for number, label in enumerate(labels)}
    samples = [
        sample(path, annotations, size, index, skipped)
        for path, annotations, size in found
        if usable(path, size, skipped)
    ]
    if not samples:
        raise DlkitError(f"{data}: none of the {len(found)} images of {split!r} can be read")
    skipped.report()
    return Annotated(samples, labels, skipped)


def layout(
    data: Path,
) -> Callable[[Path, str], tuple[list[str], list[tuple[Path, list[Annotation]]]]]:
    """The reader of the layout that the folder has."""
    if (data / "Annotations").is_dir() and (data / "ImageSets").is_dir():
        return read_voc
    if data.suffix == ".json" or next(coco_files(data), None):
        return read_coco
    if (data / "labels").is_dir() or next(data.glob("*/labels"), None):
        return read_yolo
    raise DlkitError(
        f"{data}: no training data in a known layout: VOC has Annotations/ and ImageSets/,"
        " COCO annotations/*.json, YOLO images/ and labels/ (see the README)"
    )


def measured(path: Path) -> tuple[int, int] | str:
    """Width and height, or what is wrong with the image."""
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


def sample(
    path: Path,
    annotations: list[Annotation],
    size: Any,
    index: dict[str, int],
    skipped: Skipped,
) -> Sample:
    """The sample, with its good boxes cut at the image's border."""
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
    return Sample(
        path,
        width,
        height,
        np.array([box for _, box in kept], dtype=np.float32).reshape(-1, 4),
        np.array([index[a.label] for a, _ in kept], dtype=np.int64),
        np.array([area_of(box) if a.area is None else a.area for a, box in kept], dtype=np.float64),
        np.array([a.crowd for a, _ in kept], dtype=bool),
        np.array([a.difficult for a, _ in kept], dtype=bool),
    )


def area_of(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def splits_of(data: Path) -> list[str]:
    """The names of the splits a VOC folder lists."""
    return sorted(path.stem for path in (data / "ImageSets" / "Main").glob("*.txt"))


def read_voc(data: Path, split: str) -> tuple[list[str], list[tuple[Path, list[Annotation]]]]:
    list_file = data / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.exists():
        raise DlkitError(f"{data}: no split {split!r}: there is {', '.join(splits_of(data))}")
    ids = [line.split()[0] for line in list_file.read_text().splitlines() if line.strip()]
    entries = []
    for name in ids:
        xml = data / "Annotations" / f"{name}.xml"
        entries.append(
            (image_beside(data / "JPEGImages" / name), voc_objects(xml) if xml.exists() else [])
        )
    return class_names(data), entries


def image_beside(stem: Path) -> Path:
    """The image of that name, whatever its suffix."""
    for suffix in (".jpg", ".png", ".jpeg", ".JPG", ".webp", ".bmp"):
        path = stem.with_name(stem.name + suffix)
        if path.exists():
            return path
    return stem.with_name(stem.name + ".jpg")


def voc_objects(xml: Path) -> list[Annotation]:
    """The objects of a VOC file, whose boxes count pixels from 1 and include both ends."""
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
        # Parts of an object (head, hand) have names and boxes of their own, one level deeper.
        if path[1:2] == ["object"] and "part" not in path:
            values[path[-1]] = values.get(path[-1], "") + content

    def end(name: str) -> None:
        path.pop()
        if name == "object" and len(path) == 1:
            where = f"{xml}:{line}"
            try:
                x1, y1, x2, y2 = (float(values[k]) for k in ("xmin", "ymin", "xmax", "ymax"))
            except (KeyError, ValueError):
                x1, y1, x2, y2 = 1.0, 1.0, 0.0, 0.0
            difficult = values.get("difficult", "0").strip() == "1"
            label = values.get("name", "").strip()
            found.append(Annotation(label, (x1 - 1, y1 - 1, x2, y2), where, difficult=difficult))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(xml.read_bytes(), True)
    except expat.ExpatError as error:
        raise DlkitError(f"{xml}:{error.lineno}: not well-formed XML ({error})") from error
    return found


def coco_files(data: Path) -> Iterator[Path]:
    yield from sorted((data / "annotations").glob("*.json"))
    yield from sorted(data.glob("*/_annotations.coco.json"))
    yield from sorted(data.glob("*.json"))


def read_coco(data: Path, split: str) -> tuple[list[str], list[tuple[Path, list[Annotation]]]]:
    if data.is_file():
        file, root = data, data.parent
    else:
        candidates = [f for f in coco_files(data) if split in f.stem or f.parent.name == split]
        # "instances" beats "captions" and "person_keypoints" in COCO's own folder.
        candidates.sort(key=lambda f: ("instances" not in f.stem, str(f)))
        if not candidates:
            there = ", ".join(str(f.relative_to(data)) for f in coco_files(data))
            raise DlkitError(f"{data}: no split {split!r} among {there}")
        file, root = candidates[0], data
    try:
        content = json.loads(file.read_text())
        names = {c["id"]: c["name"] for c in content["categories"]}
        annotations: dict[int, list[Annotation]] = {image["id"]: [] for image in content["images"]}
        for a in content["annotations"]:
            x, y, width, height = map(float, a["bbox"])
            annotation = Annotation(
                names.get(a["category_id"], f"id {a['category_id']}"),
                (x, y, x + width, y + height),
                f"{file}: annotation {a.get('id')}",
                area=float(a["area"]) if "area" in a else None,
                crowd=bool(a.get("iscrowd", 0)),
            )
            annotations.setdefault(a["image_id"], []).append(annotation)
        entries = [
            (coco_image(root, file, split, image["file_name"]), annotations[image["id"]])
            for image in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DlkitError(f"{file}: not a COCO file ({type(error).__name__}: {error})") from error
    return list(names.values()), entries


def coco_image(root: Path, file: Path, split: str, name: str) -> Path:
    """Where the image lies: beside its json, or in one of the usual folders."""
    folders = [root / split, root / "images" / split, root / "images", root, file.parent]
    folders += [root / f"{split}2017", root / "images" / f"{split}2017", root / f"{split}2014"]
    return next((f / name for f in folders if (f / name).exists()), root / name)


def read_yolo(data: Path, split: str) -> tuple[list[str], list[tuple[Path, list[Annotation]]]]:
    names = class_names(data)
    pairs = [
        (data / "images" / split, data / "labels" / split),
        (data / split / "images", data / split / "labels"),
    ]
    if split == "train":
        pairs.append((data / "images", data / "labels"))
    folder, labels = next((pair for pair in pairs if pair[0].is_dir()), pairs[0])
    if not folder.is_dir():
        raise DlkitError(f"{data}: no split {split!r}: neither {pairs[0][0]} nor {pairs[1][0]}")
    entries = []
    for image in sorted(path for path in folder.rglob("*") if images.is_image(path)):
        txt = labels / image.relative_to(folder).with_suffix(".txt")
        entries.append((image, yolo_objects(txt, image, names) if txt.exists() else []))
    pictures = {image.relative_to(folder).with_suffix("") for image, _ in entries}
    for txt in sorted(labels.rglob("*.txt")):
        if txt.relative_to(labels).with_suffix("") not in pictures and txt.stem != "classes":
            entries.append((folder / txt.relative_to(labels).with_suffix(".jpg"), []))
    return names, entries


def yolo_objects(txt: Path, image: Path, names: list[str]) -> list[Annotation]:
    """Lines of `class x y width height`: the box's center and size as shares of the image."""
    size = measured(image)
    if isinstance(size, str):
        return []
    found = []
    for number, line in enumerate(txt.read_text().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{txt}:{number}"
        try:
            label, x, y, w, h = (float(value) for value in line.split()[:5])
        except ValueError:
            label, x, y, w, h = -1, 0, 0, 0, 0
        name = names[int(label)] if 0 <= label < len(names) else line.split()[0]
        box = (
            (x - w / 2) * size[0],
            (y - h / 2) * size[1],
            (x + w / 2) * size[0],
            (y + h / 2) * size[1],
        )
        found.append(Annotation(name, box, where))
    return found


def class_names(data: Path) -> list[str]:
    """The classes that data.yaml or classes.txt lists; none if there is neither."""
    for folder in (data, data / "labels"):
        if (folder / "classes.txt").exists():
            lines = (folder / "classes.txt").read_text().splitlines()
            return [line.strip() for line in lines if line.strip()]
    for file in sorted(data.glob("*.y*ml")):
        try:
            names = yaml.safe_load(file.read_text())["names"]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise DlkitError(f"{file}: no list of class names under `names:`") from error
        return [str(name) for name in (names.values() if isinstance(names, dict) else names)]
    return []


class Pictures(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Training pictures of one size, augmented: image (3, S, S), boxes (N, 4), labels (N,)."""

    def __init__(self, samples: list[Sample], config: DetectTrainConfig) -> None:
        self.samples, self.config = samples, config
        self.mosaic = config.mosaic
        self.kept: list[np.ndarray] = []
        if len(samples) * config.image_size**2 * 3 <= MOST_IN_MEMORY:
            with ThreadPoolExecutor() as pool:
                self.kept = list(track(pool.map(self.decode, samples), "reading", len(samples)))

    def decode(self, sample: Sample) -> np.ndarray:
        """Pixels (h, w, 3) whose longest side is at most the training size."""
        pixels = images.read(str(sample.path), self.config.image_size).pixels
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        side = self.config.image_size
        canvas = Image.new("RGB", (side, side), (GREY, GREY, GREY))
        if random.random() < self.mosaic:
            x, y = (int(side * random.uniform(0.3, 0.7)) for _ in range(2))
            regions = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
            others = random.choices(range(len(self)), k=3)
            placed = [
                self.place(canvas, region, i, random.uniform(0.35, 1.0))
                for region, i in zip(regions, [index, *others], strict=True)
            ]
        else:
            zoom = self.config.scale ** random.uniform(-1, 1)
            placed = [self.place(canvas, (0, 0, side, side), index, zoom)]
        boxes = np.concatenate([boxes for boxes, _ in placed])
        labels = np.concatenate([labels for _, labels in placed])
        pixels = np.array(canvas.point(self.colour_table()) if self.config.recolour else canvas)
        if random.random() < self.config.flip:
            pixels = pixels[:, ::-1]
            boxes = np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], 1)
        if random.random() < self.config.flip_vertical:
            pixels = pixels[::-1]
            boxes = np.stack([boxes[:, 0], side - boxes[:, 3], boxes[:, 2], side - boxes[:, 1]], 1)
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return image, torch.from_numpy(boxes), torch.from_numpy(labels)

    def place(
        self, canvas: Image.Image, region: tuple[int, int, int, int], index: int, zoom: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste an image, zoomed and shifted at random, into a region; its boxes and labels there.

        `zoom` 1 fits the longest side to the canvas; width and height vary a little besides.
        """
        sample = self.samples[index]
        image = Image.fromarray(self.kept[index] if self.kept else self.decode(sample))
        x1, y1, x2, y2 = region
        zoom *= self.config.image_size / max(image.size)
        stretch = random.uniform(0.9, 1.11) ** 0.5
        scales, offsets, crop, target = [], [], [], []
        for length, room, scale in zip(
            image.size, (x2 - x1, y2 - y1), (zoom * stretch, zoom / stretch), strict=True
        ):
            whole = max(1, round(length * scale))
            shift = round(random.uniform(0, room - whole))  # negative when the image is larger
            scales.append(whole)
            offsets.append(shift)
            low, high = max(0, -shift), min(whole, room - shift)
            crop.append((low * length / whole, high * length / whole))
            target.append((max(0, shift), high - low))
        box = (crop[0][0], crop[1][0], crop[0][1], crop[1][1])
        part = image.resize((target[0][1], target[1][1]), Image.Resampling.BILINEAR, box)
        canvas.paste(part, (x1 + target[0][0], y1 + target[1][0]))

        size = np.array([sample.width, sample.height] * 2, dtype=np.float32)
        boxes = sample.boxes[~sample.crowd] / size * np.array(scales * 2, dtype=np.float32)
        boxes = boxes + np.array([offsets[0] + x1, offsets[1] + y1] * 2, dtype=np.float32)
        return cut(boxes, sample.labels[~sample.crowd], region)

    def colour_table(self) -> list[int]:
        """For each channel the 256 new values: brightness, contrast and a cast of colour."""
        share = self.config.recolour
        contrast, brightness = (1 + random.uniform(-share, share) for _ in range(2))
        values = np.arange(256)
        table = []
        for _ in range(3):
            cast = brightness * (1 + random.uniform(-share, share) / 3)
            table += list(((values * cast - 128) * contrast + 128).clip(0, 255).astype(int))
        return table


def cut(
    boxes: np.ndarray, labels: np.ndarray, region: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes cut at the region's border, without those of which too little is left to see."""
    x1, y1, x2, y2 = region
    inside = boxes.clip(min=[x1, y1, x1, y1], max=[x2, y2, x2, y2]).astype(np.float32)
    left = (inside[:, 2:] - inside[:, :2]).prod(axis=1)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    seen = (left > 0.25 * whole) & (
        (inside[:, 2:] - inside[:, :2]).min(axis=1, initial=np.inf) >= 3
    )
    return inside[seen], labels[seen]


def collate(samples: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """images (B, 3, S, S), boxes (B, N, 4), labels (B, N) padded with -1."""
    most = max(1, *(len(labels) for _, _, labels in samples))
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.full((len(samples), most), -1)
    for index, (_, own_boxes, own_labels) in enumerate(samples):
        boxes[index, : len(own_boxes)] = own_boxes
        labels[index, : len(own_labels)] = own_labels
    return torch.stack([image for image, _, _ in samples]), boxes, labels
