"""COCO's layout: a JSON file for each split. Loads no torch.

annotations/*SPLIT*.json, SPLIT/_annotations.coco.json or *.json, and the images they name
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from dlkit.core.datasets.pictures import checked
from dlkit.core.datasets.poses import SEEN, mirrored_names
from dlkit.core.datasets.samples import ALL, Annotation, Box, Classes, Keypoint, Pose, Sample
from dlkit.core.datasets.texts import read_json
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_file
from dlkit.core.io.splits import find_splits, split_of
from dlkit.core.ledger import Ledger

ROBOFLOW = "_annotations.coco.json"
POSES = "person_keypoints"
KINDS = ("instances", POSES, "captions", "panoptic", "stuff", "image_info")
PANOPTIC = (
    "COCO's panoptic annotations are not read; export instances (objects with `segmentation`), or"
    " convert the masks to images/ and masks/"
)
PEEKED = 1 << 16  # bytes
BAD_SEGMENTATION = "bad segmentation"
Id = int | str


class Coco:
    """The JSON files of a folder, one for each split, or one file."""

    layout = "COCO"

    def __init__(self, data: Path, kind: str = "instances") -> None:
        self.root = data.parent if data.is_file() else data
        self.files = {split_of(data.stem) or ALL: data} if data.is_file() else find(data, kind)
        self.of_poses = kind == POSES
        self.known: dict[str, Classes] = {}
        self.loaded: tuple[str, Content] | None = None

    @property
    def classes(self) -> Classes:
        """The names of the categories in their order, each once; of `train` if there is one.

        Their poses are known where the data are read for keypoints.
        """
        split = "train" if "train" in self.files else next(iter(self.files))
        if split not in self.known:
            self.content(split)
        return self.known[split]

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a file."""
        return list(self.files)

    def content(self, split: str) -> "Content":
        """The content of a split's file, which is kept until `read`."""
        if self.loaded is None or self.loaded[0] != split:
            content = Content(self.files[split])
            self.loaded = split, content
            self.known[split] = Classes(
                content.names, poses=content.poses() if self.of_poses else {}
            )
        return self.loaded[1]

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split with their annotations.

        Raises DlkitError for a file of other keypoints than that of `train`.
        """
        poses = self.classes.poses if self.of_poses else {}
        content = self.content(split)
        for label, pose in self.known[split].poses.items():
            if poses.get(label, pose) != pose:
                raise DlkitError(
                    f"{label!r} has other keypoints, or lines between them, than in another split",
                    content.file,
                )
        self.loaded = None
        paths = ImagePaths(self.root, content.file, split)
        return checked(content.samples(paths, ledger), ledger)


def json_files(data: Path) -> Iterator[Path]:
    """Yield annotations/*.json, */_annotations.coco.json and *.json."""
    yield from sorted((data / "annotations").glob("[!.]*.json"))
    yield from sorted(data.glob(f"*/{ROBOFLOW}"))
    yield from filter(looks_like_coco, sorted(data.glob("[!.]*.json")))


def looks_like_coco(file: Path) -> bool:
    """Whether the beginning or the end of a file has names of COCO's lists."""
    try:
        with file.open("rb") as stream:
            head = stream.read(PEEKED)
            stream.seek(max(len(head), file.stat().st_size - PEEKED))
            ends = head + stream.read()
    except (OSError, ValueError):
        return False
    return b'"images"' in ends or b'"annotations"' in ends


def find(data: Path, kind: str) -> dict[str, Path]:
    """The file of each split; of COCO's own kinds of annotations the one that is wanted."""
    names: dict[str, Path] = {}
    for path in json_files(data):
        name = path.parent.name if path.name == ROBOFLOW and path.parent != data else path.stem
        names.setdefault(name, path)
    own = [name for name in names if name.startswith(kind)]
    plain = [name for name in names if not name.startswith(KINDS)]
    others = [[name for name in names if name.startswith(other)] for other in (POSES, KINDS[0])]
    for group in (own, plain, *others):
        found = {split: names[name] for split, name in find_splits(group, data).items()}
        if found:
            return found
    if len(own + plain) == 1:
        return {ALL: names[(own + plain)[0]]}
    if any(name.startswith("panoptic") for name in names):
        raise DlkitError(PANOPTIC, data)
    if not names:
        raise DlkitError("no JSON file", data)
    raise DlkitError(
        f"none of {', '.join(names)} names a split (train, val, test); give one of the files", data
    )


class ImagePaths:
    """The paths of images that a JSON file names: beside it, or in a usual folder."""

    def __init__(self, root: Path, file: Path, split: str) -> None:
        words = file.stem.split("_")
        spellings = dict.fromkeys(
            [split, words[-1], f"{split}2017", f"{split}2014", f"{split}2007"]
        )
        if split == "val":
            spellings |= {"valid": None, "validation": None}
        own = [folder / name for name in spellings for folder in (root, root / "images")]
        self.folders = [file.parent, *own, root / "images", root]
        if file.parent.name == "annotations" or file.parent == root:
            self.folders = [*own, root / "images", root, file.parent]
        self.root = root

    def find(self, name: str) -> Path:
        """The path of an image; where there is none, the one that it should have."""
        plain = name.replace("\\", "/").removeprefix("./")
        names = [plain]
        if PurePosixPath(plain).is_absolute() or PureWindowsPath(name).drive:
            # Written for another machine.
            names = [plain, plain.rsplit("/", 1)[-1]]
        for candidate in names:
            for number, folder in enumerate(self.folders):
                path = folder / candidate
                if is_file(path):
                    # The next image is in the same folder.
                    self.folders.insert(0, self.folders.pop(number))
                    return path
        return self.root / names[-1]


class Content:
    """The lists of a JSON file. Raises DlkitError for a file without them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        content = read_json(file)
        if not isinstance(content, dict):
            raise DlkitError("not a COCO file: no object with images and annotations", file)
        for name in ("images", "annotations", "categories"):
            if not isinstance(content.get(name), list):
                raise DlkitError(f"not a COCO file: no list `{name}`", file)
            if not all(isinstance(item, dict) for item in content[name]):
                raise DlkitError(f"not a COCO file: `{name}` is not a list of objects", file)
        self.images, self.annotations = content["images"], content["annotations"]
        if any("segments_info" in a for a in self.annotations[:1]):
            raise DlkitError(PANOPTIC, file)
        self.categories = self.read_categories(content["categories"])
        self.described = content["categories"]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the categories, each once."""
        return tuple(dict.fromkeys(filter(None, self.categories.values())))

    def poses(self) -> dict[str, Pose]:
        """The keypoints of the categories that have some; without names, their number."""
        found: dict[str, Pose] = {}
        for category in self.described:
            number = id_of(category.get("id"))
            label = self.categories[number] if number is not None else ""
            pose = read_pose(category, f"category {label!r}", self.file)
            if pose is not None and found.setdefault(label, pose) != pose:
                raise DlkitError(f"two categories {label!r} have other keypoints", self.file)
        for record in self.annotations:
            number = id_of(record.get("category_id"))
            label = "" if number is None else self.categories.get(number, "")
            if label and label not in found:
                points, _ = keypoints(record.get("keypoints"))
                if points:
                    found[label] = Pose(len(points))
        return found

    def read_categories(self, categories: Sequence[dict[str, Any]]) -> dict[Id, str]:
        """The name of each id; an empty one for a category without a name."""
        found: dict[Id, str] = {}
        for category in categories:
            number = id_of(category.get("id"))
            name = category.get("name")
            text = str(name).strip() if isinstance(name, str | int | float) else ""
            if number is None:
                raise DlkitError(f"category {text or category} has no id", self.file)
            if found.get(number, text) != text:
                raise DlkitError(
                    f"category id {number} is given to {found[number]} and {text}", self.file
                )
            found[number] = text
        return found

    def samples(self, paths: ImagePaths, ledger: Ledger) -> list[Sample]:
        """The images with their annotations."""
        entries: dict[Id, Sample] = {}
        of_path: dict[Path, Id] = {}
        joined: dict[Id, Id] = {}
        for place, image in enumerate(self.images):
            number, name = id_of(image.get("id")), image.get("file_name")
            where = f"{self.file}: image {image.get('id', f'number {place}')}"
            if number is None or not isinstance(name, str) or not name:
                ledger.skip("images", "image without an id or a file_name", where)
                continue
            path = paths.find(name)
            if number in entries:
                if entries[number].path != path:
                    other = entries[number].path.name
                    raise DlkitError(f"image id {number} is given to {other} and {name}", self.file)
                ledger.note("images that are listed twice, of which one is read", where)
            elif path in of_path:
                ledger.note("images with two ids, whose annotations are joined", where)
                joined[number] = of_path[path]
            else:
                of_path[path] = number
                entries[number] = Sample(path, where, declared_size(image))
        annotations: dict[Id, list[Annotation]] = {number: [] for number in entries}
        seen: dict[Id, dict[str, Any]] = {}
        for place, a in enumerate(self.annotations):
            where = f"{self.file}: annotation {a.get('id', f'number {place}')}"
            image_id, own = id_of(a.get("image_id")), id_of(a.get("id"))
            of_image = None if image_id is None else joined.get(image_id, image_id)
            if of_image not in annotations:
                ledger.skip("annotations", "annotation of no image", where)
                continue
            if own is not None and seen.setdefault(own, a) is not a and seen[own] == a:
                ledger.skip("annotations", "annotation that is there twice", where)
                continue
            annotations[of_image].append(self.annotation(a, where))
        return [
            replace(sample, annotations=tuple(annotations[number]))
            for number, sample in entries.items()
        ]

    def annotation(self, a: Mapping[str, Any], where: str) -> Annotation:
        """The record of an annotation."""
        category = id_of(a.get("category_id"))
        label = "" if category is None else self.categories.get(category, "")
        box, flaw = coco_box(a.get("bbox"))
        polygons, rle, flaw_of_mask = segmentation(a.get("segmentation"))
        points, flaw_of_pose = keypoints(a.get("keypoints"))
        bad = flaw_of_mask == BAD_SEGMENTATION
        crowd = flag(a.get("iscrowd"))
        if crowd is None:
            flaw_of_label = "iscrowd that is neither 0 nor 1"
            label = ""
        elif category not in self.categories:
            flaw_of_label = f"unknown category id {a.get('category_id')}"
        else:
            flaw_of_label = "" if label else f"category {category} without a name"
        return Annotation(
            label,
            where,
            box,
            polygons,
            rle,
            points,
            number_of(a.get("area")),
            bool(crowd),
            flaw=flaw_of_label or (flaw_of_mask if bad or not flaw else flaw),
            pose_flaw=flaw_of_pose,
        )


def id_of(value: Any) -> Id | None:
    """An id as a number where it can be one, so that "7" matches 7; None for no id."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.strip().isdecimal() else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    return value if isinstance(value, int) else None


def number_of(value: Any) -> float | None:
    """A finite number that is not negative; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def flag(value: Any) -> bool | None:
    """A flag of 0 or 1, also in quotes; False if it is missing, None for another value."""
    if value in (None, ""):
        return False
    known = {"0": False, "false": False, "1": True, "true": True}
    return known.get(str(value).strip().lower().removesuffix(".0"))


def declared_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """The declared width and height; None where one of them is missing."""
    width, height = (number_of(image.get(name)) for name in ("width", "height"))
    return (int(width), int(height)) if width and height else None


def coco_box(values: Any) -> tuple[Box | None, str]:
    """The corners of x, y, width, height; None and the reason for other values."""
    if values is None or values == []:
        return None, "annotation without a bbox"
    try:
        x, y, width, height = map(float, values)
    except (TypeError, ValueError, OverflowError):
        return None, "bbox that is not four numbers"
    return (x, y, x + width, y + height), ""


def segmentation(
    value: Any,
) -> tuple[tuple[tuple[float, ...], ...], dict[str, Any] | None, str]:
    """The polygons or the run-length code of a segmentation, or neither and the reason."""
    if isinstance(value, dict):
        return (), value, ""
    if not value:
        return (), None, "annotation without a segmentation"
    try:
        polygons = tuple(tuple(map(float, points)) for points in value)
    except (TypeError, ValueError, OverflowError):
        return (), None, BAD_SEGMENTATION
    bad = any(len(points) % 2 or not all(map(math.isfinite, points)) for points in polygons)
    polygons = tuple(points for points in polygons if len(points) > 4)  # others have no area
    return ((), None, BAD_SEGMENTATION) if bad or not polygons else (polygons, None, "")


def keypoints(value: Any) -> tuple[tuple[Keypoint, ...], str]:
    """The keypoints of triples x, y, visibility; none, and the reason, for other values."""
    if value is None or value == []:
        return (), ""
    if not isinstance(value, list) or len(value) % 3:
        return (), "keypoints that are not triples x, y, visibility"
    points = []
    for x, y, seen in zip(value[::3], value[1::3], value[2::3], strict=True):
        if seen not in SEEN:
            return (), "keypoint whose visibility is not 0, 1 or 2"
        try:
            points.append(Keypoint(float(x), float(y), int(seen)))
        except (TypeError, ValueError, OverflowError):
            return (), "keypoint that is not two numbers"
    return tuple(points), ""


def read_pose(category: Mapping[str, Any], where: str, file: Path) -> Pose | None:
    """The keypoints of a category, whose skeleton counts from 1; None without any."""
    names, lines = category.get("keypoints"), category.get("skeleton")
    if not names:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DlkitError(f"{where}: `keypoints` is not a list of names", file)
    if len(set(names)) < len(names):
        raise DlkitError(f"{where}: two keypoints have one name", file)
    if lines is not None and not isinstance(lines, list):
        raise DlkitError(f"{where}: `skeleton` is not a list of lines", file)
    skeleton = []
    for line in lines or []:
        ends = [e for e in map(id_of, line) if isinstance(e, int)] if isinstance(line, list) else []
        if len(ends) != 2 or len(line) != 2 or not all(1 <= e <= len(names) for e in ends):
            raise DlkitError(
                f"{where}: `skeleton` has {line}, not two numbers from 1 to {len(names)}", file
            )
        skeleton.append((ends[0] - 1, ends[1] - 1))
    return Pose(len(names), tuple(names), tuple(skeleton), mirrored_names(names))
