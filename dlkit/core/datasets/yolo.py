"""YOLO's layout: a text file of boxes, polygons or poses for each image. Loads no torch.

    data.yaml or classes.txt, images/SPLIT/ and labels/SPLIT/, or SPLIT/images/ and SPLIT/labels/

A line is `class x y width height` in fractions of the upright image, with the keypoints of
`kpt_shape` behind it, or `class x1 y1 x2 y2 x3 y3 ...`, the corners of a polygon. An image without
a text file has no objects.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dlkit.core.datasets.classes import CLASSES, read_classes
from dlkit.core.datasets.pictures import Size, find_images, measure
from dlkit.core.datasets.poses import SEEN, mirrored_names
from dlkit.core.datasets.samples import ALL, Annotation, Classes, Keypoint, Pose, Sample
from dlkit.core.datasets.texts import read_text, read_yaml
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_dir
from dlkit.core.io.image_files import has_suffix
from dlkit.core.io.splits import find_splits
from dlkit.core.io.walk import walk
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log

IMAGES, LABELS = "images", "labels"
PIXELS = 2  # above it a number is one of pixels, not a fraction of an image
OTHER_TEXTS = {"classes", "notes", "readme"}  # beside label files
BOX = "line that is not `class x y width height`"
NO_LABELS = "images without a label file, which have no objects"


@dataclass(frozen=True)
class Description:
    """The content of a data.yaml, compared with itself.

    `names` are the classes by their ids; `splits` the folders and lists of files as given;
    `kpt_shape` the number of keypoints of a pose and of numbers of each, `kpt_names` their names
    by the class, and `flip_idx` the keypoint that each is in a mirrored image.
    """

    file: Path | None
    names: dict[int, str]
    splits: dict[str, list[str]]
    path: str | None = None
    kpt_shape: tuple[int, int] | None = None
    kpt_names: dict[int, tuple[str, ...]] = field(default_factory=dict)
    flip_idx: tuple[int, ...] | None = None

    def poses(self) -> dict[str, Pose]:
        """The keypoints of the classes."""
        if self.kpt_shape is None:
            return {}
        poses = {}
        for number, label in self.names.items():
            names = self.kpt_names.get(number, ())
            mirrored = self.flip_idx or mirrored_names(names)
            poses[label] = Pose(self.kpt_shape[0], names, mirrored=mirrored)
        return poses


class Yolo:
    """Images in the folders that data.yaml names, or in those of the splits."""

    layout = "YOLO"

    def __init__(self, data: Path) -> None:
        self.root = data.parent if data.is_file() else data
        self.description = describe(data)
        self.places = self.find_places()

    @property
    def classes(self) -> Classes:
        """The names of the classes by their ids, each once; none if the data set lists none."""
        names = self.description.names
        listed = tuple(dict.fromkeys(names[number] for number in sorted(names)))
        return Classes(listed, poses=self.description.poses())

    @property
    def splits(self) -> Sequence[str]:
        """The splits that data.yaml or the folders name."""
        return list(self.places)

    def find_places(self) -> dict[str, list[Path]]:
        """The folders and lists of each split: those of data.yaml, then those of the folders."""
        found = {
            split: [self.resolve(entry) for entry in entries]
            for split, entries in self.description.splits.items()
        }
        for split, folder in split_folders(self.root).items():
            found.setdefault(split, [folder])
        if not found and (self.root / IMAGES).is_dir():
            found = {ALL: [self.root / IMAGES]}
        if not found:
            raise DlkitError("no folder images/, images/train/ or train/images/", self.root)
        return found

    @cached_property
    def bases(self) -> list[Path]:
        """The folders from which data.yaml may count: its `path`, from where it is or from here."""
        declared = self.description.path
        if declared is None:
            return [self.root]
        if is_dir(self.root / declared):
            return [self.root / declared, self.root]
        if Path(declared).name == self.root.resolve().name:
            return [self.root]
        if is_dir(declared):
            return [Path(declared), self.root]
        log(f"{self.description.file}: no folder {declared}; {self.root} is taken instead")
        return [self.root]

    def resolve(self, entry: str) -> Path:
        """The folder or list of an entry. Raises DlkitError if there is none."""
        plain = entry.replace("\\", "/")
        # Roboflow writes ../train/images for train/images.
        inside = plain.lstrip("./") if plain.startswith("../") else plain
        for name in dict.fromkeys((plain, inside)):
            for base in self.bases:
                if os.path.exists(base / name):
                    return base / name
        raise DlkitError(f"no {entry}, which it names", self.description.file)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split with their objects."""
        images: dict[Path, None] = {}
        for place in self.places[split]:
            found = find_images(place, ledger) if place.is_dir() else self.listed(place, ledger)
            images |= dict.fromkeys(found)
            self.skip_orphans(place, images, ledger)
        paths = list(images)
        samples = []
        for path, size in zip(paths, measure(paths, ledger.name), strict=True):
            if isinstance(size, str):
                ledger.skip("images", size, str(path))
            elif (sample := self.sample(path, size, ledger)) is not None:
                samples.append(sample)
        self.check_ids(samples)
        return samples

    def listed(self, file: Path, ledger: Ledger) -> Iterator[Path]:
        """The images in a list of files, or one image."""
        if has_suffix(file.name):
            yield file
            return
        for line in read_text(file).splitlines():
            name = line.strip().replace("\\", "/")
            if name:
                places = [file.parent / name, *(base / name for base in self.bases), Path(name)]
                yield next((path for path in places if os.path.exists(path)), places[0])

    def skip_orphans(self, place: Path, images: dict[Path, None], ledger: Ledger) -> None:
        """Skip the label files of a folder that have no image."""
        folder = label_path(place / "x.jpg", self.root).parent
        if not place.is_dir() or not folder.is_dir():
            return
        known = {label_path(image, self.root) for image in images}
        for name in walk(str(folder), lambda name: name.endswith(".txt")):
            path = Path(name)
            if path not in known and path.stem.lower() not in OTHER_TEXTS:
                ledger.skip("images", "label file without an image", name)

    def sample(self, image: Path, size: Size, ledger: Ledger) -> Sample | None:
        """The image with the objects of its label file; None, and skipped, for a damaged file."""
        file = label_path(image, self.root)
        try:
            if not os.path.exists(file):
                ledger.note(NO_LABELS, f"{image} (no {file})")
                return Sample(image, str(image), size)
            text = read_text(file)
        except DlkitError as error:
            ledger.skip("images", "label file that cannot be read", str(error))
            return None
        found = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                found.append(self.annotation(line, size, f"{file}:{number}"))
        return Sample(image, str(file), size, tuple(found))

    def annotation(self, line: str, size: Size, where: str) -> Annotation:
        """The object of a line."""
        parts = line.split(",") if "," in line else line.split()
        try:
            first, *values = (float(part) for part in parts)
        except ValueError:
            return Annotation("", where, flaw=BOX)
        if not first.is_integer() or first < 0:
            return Annotation("", where, flaw=f"class {parts[0].strip()}, which is not an id")
        number, names = int(first), self.description.names
        label = names.get(number, "") if names else str(number)
        shape = parse_values(values, size, self.description.kpt_shape)
        if isinstance(shape, str):
            return Annotation(label, where, flaw=shape, pose_flaw=shape)
        flaw = "" if label else f"unknown class {number}"
        return Annotation(label, where, shape.box, shape.polygons, None, shape.keypoints, flaw=flaw)

    def check_ids(self, samples: Sequence[Sample]) -> None:
        """Raise DlkitError if the label files count their classes from 1, and data.yaml from 0."""
        names = self.description.names
        if not names or sorted(names) != list(range(len(names))):
            return
        annotations = [a for sample in samples for a in sample.annotations]
        beyond = f"unknown class {len(names)}"
        over = next((a.where for a in annotations if a.flaw == beyond), None)
        labels = {a.label for a in annotations}
        larger = any(a.flaw.startswith("unknown class") and a.flaw != beyond for a in annotations)
        if over is not None and names[0] not in labels and not larger:
            raise DlkitError(
                f"class {len(names)} (and no class 0), but the ids of the names are 0 to"
                f" {len(names) - 1}: do the label files count from 1? Then write the names as"
                f" 1: {names[0]} ...",
                over,
            )


@dataclass(frozen=True)
class Shape:
    """The numbers of a line in pixels."""

    box: tuple[float, float, float, float] | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    keypoints: tuple[Keypoint, ...] = ()


def parse_values(
    values: Sequence[float], size: Size, kpt_shape: tuple[int, int] | None
) -> Shape | str:
    """The box, pose or polygon of the numbers behind the class, or the reason why it is none."""
    width, height = size
    if not all(map(math.isfinite, values)):
        return "line with a number that is not finite"
    if any(abs(value) > PIXELS for value in values[:4]):
        return f"line with numbers beyond {PIXELS}: pixels instead of fractions of the image?"
    count = len(values)
    poses = kpt_shape is not None and count > 5
    if kpt_shape is not None and poses and count != 4 + kpt_shape[0] * kpt_shape[1]:
        return f"pose of {count - 4} numbers, not of kpt_shape {kpt_shape[0]} x {kpt_shape[1]}"
    if count in {4, 5} or poses:  # a fifth number is a confidence
        x, y, w, h = values[:4]
        box = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
        points: list[Keypoint] = []
        if kpt_shape is not None and poses:
            for start in range(4, count, kpt_shape[1]):
                x, y, *seen = values[start : start + kpt_shape[1]]
                if seen and seen[0] not in SEEN:
                    return "keypoint whose visibility is not 0, 1 or 2"
                visible = int(seen[0]) if seen else 2 * bool(x or y)
                points.append(Keypoint(x * width, y * height, visible))
        return Shape(box, keypoints=tuple(points))
    if count < 6:
        return BOX
    if count % 2 or not all(-0.01 <= value <= 1.01 for value in values):
        return "line that is neither a box nor a polygon (poses need kpt_shape in data.yaml)"
    corners = tuple(v * (height if i % 2 else width) for i, v in enumerate(values))
    return Shape(polygons=(corners,))


def label_path(image: Path, root: Path) -> Path:
    """The label file of an image: in labels/ for images/, else beside it."""
    inside = image.is_relative_to(root)
    parts = list((image.relative_to(root) if inside else image).parts)
    if IMAGES in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index(IMAGES)
        parts[last] = LABELS
    path = root.joinpath(*parts) if inside else Path(*parts)
    return path.with_suffix(".txt")


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of images of each split: images/SPLIT/, or SPLIT/images/."""
    if (root / IMAGES).is_dir():
        names = [path.name for path in (root / IMAGES).iterdir() if path.is_dir()]
        found = find_splits(names, root / IMAGES)
        if found:
            return {split: root / IMAGES / name for split, name in found.items()}
    names = [path.parent.name for path in root.glob(f"*/{IMAGES}") if path.is_dir()]
    return {split: root / name / IMAGES for split, name in find_splits(names, root).items()}


def describe(data: Path) -> Description:
    """The description of a data set: its data.yaml, or another .yaml with `names`; classes.txt.

    Raises DlkitError if two files have different names of classes.
    """
    root = data.parent if data.is_file() else data
    files = (
        [data] if data.is_file() else sorted([*root.glob("[!.]*.yaml"), *root.glob("[!.]*.yml")])
    )
    main = [file for file in files if file.stem == "data"] or files
    found = [read_description(file) for file in main]
    named = [description for description in found if description.names]
    if main and not named:
        raise DlkitError("no list of class names under `names:`", main[0])
    for other in named[1:]:
        if other.names != named[0].names or other.splits != named[0].splits:
            raise DlkitError(
                f"both {named[0].file} and {other.file} describe the data; give one of them", root
            )
    listed = [read_classes(folder) for folder in (root, root / LABELS)]
    lists = [classes.names for classes in listed if classes is not None]
    by_id = named[0].names if named else dict(enumerate(lists[0])) if lists else {}
    for names in lists:
        if dict(enumerate(names)) != by_id:
            first = named[0].file if named else root / CLASSES
            raise DlkitError(f"{first} and {CLASSES} list different classes; remove one", root)
    return named[0] if named else Description(None, by_id, {})


def read_description(file: Path) -> Description:
    """Read a data.yaml; `names` are empty in a file without any."""
    content = read_yaml(file)
    if not isinstance(content, dict) or "names" not in content:
        return Description(file, {}, {})
    names = class_names(content["names"], file)
    count = content.get("nc")
    if count is not None and integer(count, "nc", file) not in {len(names), max(names) + 1}:
        raise DlkitError(f"nc is {count}, but there are {len(names)} names", file)
    splits = {}
    for split, key in find_splits(filter(str.isalpha, content), file).items():
        value = content[key]
        entries = value if isinstance(value, list) else [value]
        entries = [entry for entry in entries if isinstance(entry, str) and entry]
        if entries:
            splits[split] = entries
    path = content.get("path")
    shape = content.get("kpt_shape")
    found = Description(file, names, splits, path if isinstance(path, str) and path else None)
    if shape is None:
        return found
    count, numbers = keypoint_shape(shape, file)
    return replace(
        found,
        kpt_shape=(count, numbers),
        kpt_names=keypoint_names(content.get("kpt_names"), names, count, file),
        flip_idx=mirrored_indices(content.get("flip_idx"), count, file),
    )


def class_names(names: Any, file: Path) -> dict[int, str]:
    """The names of classes by their ids, of a list or a mapping."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DlkitError("no list of class names under `names:`", file)
    found = {}
    for key, name in names.items():
        number = integer(key, "an id in `names:`", file)
        if not isinstance(name, str) or not name.strip():
            raise DlkitError(f"class {number} has no name under `names:`", file)
        if number in found:
            raise DlkitError(f"id {number} is given twice under `names:`", file)
        found[number] = name.strip()
    return found


def keypoint_shape(shape: Any, file: Path) -> tuple[int, int]:
    """The number of keypoints, and of numbers of each: 2, or 3 with visibility."""
    if isinstance(shape, list) and len(shape) == 2:
        count, numbers = (integer(value, "kpt_shape", file) for value in shape)
        if count > 0 and numbers in {2, 3}:
            return count, numbers
    raise DlkitError("kpt_shape is not [number of keypoints, 2 or 3]", file)


def keypoint_names(
    names: Any, classes: dict[int, str], count: int, file: Path
) -> dict[int, tuple[str, ...]]:
    """The names of the keypoints by the class: of a list by the class, or of one for all."""
    if not names:
        return {}
    by_class = names if isinstance(names, dict) else dict.fromkeys(map(str, classes), names)
    found = {}
    for key, listed in by_class.items():
        number = integer(key, "a class in `kpt_names:`", file)
        if number not in classes:
            raise DlkitError(f"kpt_names has a class {number}, which `names` does not have", file)
        if not isinstance(listed, list) or not all(isinstance(n, str) and n for n in listed):
            raise DlkitError("kpt_names is not a list of names, nor one for each class", file)
        if len(listed) != count or len(set(listed)) < count:
            raise DlkitError(
                f"kpt_names has {len(set(listed))} different names, but kpt_shape {count}",
                file,
            )
        found[number] = tuple(listed)
    return found


def mirrored_indices(indices: Any, count: int, file: Path) -> tuple[int, ...] | None:
    """The keypoint that each is in a mirrored image."""
    if not indices:
        return None
    found = [integer(i, "flip_idx", file) for i in indices] if isinstance(indices, list) else []
    if sorted(found) != list(range(count)) or any(found[i] != k for k, i in enumerate(found)):
        raise DlkitError(
            f"flip_idx is not a list of the {count} keypoints from 0, in which two change places",
            file,
        )
    return tuple(found)


def integer(value: Any, what: str, file: Path) -> int:
    """A whole number that is not negative."""
    if str(value).isascii() and str(value).isdecimal():
        return int(value)
    raise DlkitError(f"{value!r} for {what} is not a whole number", file)
