"""Reading images and masks in the common layouts, which are recognized by their files.

    CamVid      SPLIT.txt with lines `image mask`, or SPLIT/ and SPLITannot/; classes.txt
    folders     images/SPLIT/ and masks/SPLIT/, or SPLIT/images/ and SPLIT/masks/; optionally
                instances/ with object masks; classes.txt
    Pascal VOC  ImageSets/Segmentation/SPLIT.txt, JPEGImages/, SegmentationClass/, optionally
                SegmentationObject/; classes.txt if the classes are not VOC's
    COCO        annotations/instances_SPLIT*.json or SPLIT/_annotations.coco.json, and its images

A mask holds the class index of each pixel, or the color of its class. classes.txt has one class per
line, in the order of the indices, optionally followed by `red green blue`: then colors decide,
whatever the mode of a mask's file. Pixels are ignored if their value is 255 and no color of the
table, their class is named void, ignore or unlabeled, or, in CamVid's layout, their index is the
one after the last class.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io import coco, image_files
from dlkit.core.io.text import lines
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.segment.masks import (
    BACKGROUND,
    IGNORED,
    IGNORED_NAMES,
    BadMask,
    CocoTruth,
    Color,
    MaskFile,
    make_class_table,
)

VOC_CLASSES = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
]  # fmt: skip
# JPEG last, which is refused with its reason.
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg")

Entry = tuple[Path, MaskFile | CocoTruth]


@dataclass(frozen=True)
class AnnotatedImage:
    """An image, its ground truth, and the number of pixels (C,) of each class."""

    path: Path
    width: int
    height: int
    truth: MaskFile | CocoTruth
    pixels: np.ndarray


@dataclass(frozen=True)
class DatasetSplit:
    """One split of a data set."""

    samples: list[AnnotatedImage]
    labels: list[str]
    skipped: Skipped


# The labels of a data set, and each image of a split with its ground truth.
Listing = tuple[list[str], list[Entry]]


def read_split(
    data: Path,
    split: str,
    labels: list[str] | None = None,
    instances: bool = False,
    objects: bool = False,
) -> DatasetSplit:
    """Read the images of one split and their masks; `labels` fixes the classes and their order.

    With `instances` the classes are those of objects, without the background. `instances` and
    `objects` both require object masks. Unreadable images, masks of another size and masks with
    unknown values are skipped and reported. Raises DlkitError if the layout is unknown or no
    image is usable.
    """
    if not data.exists():
        raise DlkitError("no such folder", data)
    skipped = Skipped()
    names, entries = find_reader(data)(data, split, labels, instances, skipped)
    check = partial(check_entry, count=len(names), objects=instances or objects)
    with ThreadPoolExecutor() as pool:
        checked = list(track(pool.map(check, entries), f"checking {split}", len(entries)))
    for bad in checked:
        if isinstance(bad, BadMask):
            skipped.add(bad.kind, bad.where)
    skipped.report()
    samples = [sample for sample in checked if isinstance(sample, AnnotatedImage)]
    if not samples:
        reason = f": {next(iter(skipped.places))}" if skipped.places else ""
        raise DlkitError(f"no image of {split!r} has a usable mask{reason}", data)
    return DatasetSplit(samples, names, skipped)


def find_reader(data: Path) -> Callable[..., Listing]:
    """The reader of the folder's layout."""
    if (data / "SegmentationClass").is_dir() and (data / "ImageSets").is_dir():
        return read_voc
    if (data / "masks").is_dir() or next(data.glob("*/masks"), None):
        return read_folders
    if data.suffix == ".json" or next(coco.json_files(data), None):
        return read_coco
    if next(data.glob("*annot"), None):
        return read_camvid
    raise DlkitError(
        "no masks in a known layout; use images/ and masks/, VOC's SegmentationClass/ and"
        " ImageSets/, CamVid's train/ and trainannot/, or COCO's annotations/*.json (see"
        " `dlkit docs segment`)",
        data,
    )


def check_entry(entry: Entry, count: int, objects: bool) -> AnnotatedImage | BadMask:
    """Check that an image and its mask are readable and of the same size."""
    path, truth = entry
    if not path.exists():
        return BadMask("missing image", str(path))
    try:
        width, height = images.size(path)
    except DlkitError:
        return BadMask("unreadable image", str(path))
    try:
        if objects:
            truth.objects()
        mask = truth.mask()
    except BadMask as error:
        return error
    if mask.shape != (height, width):
        mask_path = truth.path if isinstance(truth, MaskFile) else path
        sizes = f"{mask.shape[1]} x {mask.shape[0]}, its image {width} x {height}"
        return BadMask("mask of another size", f"{mask_path} ({sizes})")
    pixels = np.bincount(mask.reshape(-1), minlength=256)[:IGNORED]
    return AnnotatedImage(path, width, height, truth, pixels[:count])


def read_class_table(file: Path) -> list[tuple[str, Color | None]]:
    """Read the classes of a file, one per line: a name, optionally followed by `red green blue`."""
    entries: list[tuple[str, Color | None]] = []
    for number, line in enumerate(lines(str(file)), 1):
        words = line.replace(",", " ").split()
        if len(words) > 3 and all(word.isdigit() for word in words[-3:]):
            red, green, blue = (int(word) for word in words[-3:])
            if max(red, green, blue) > 255:
                raise DlkitError(f"{file}:{number}: a color needs three numbers from 0 to 255")
            entries.append((" ".join(words[:-3]), (red, green, blue)))
        elif words:
            entries.append((line.strip(), None))
    names = [name for name, _ in entries]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise DlkitError(f"the class {duplicate} is listed twice", file)
    return entries


def make_entries(
    entries: Sequence[tuple[str, Color | None]],
    labels: list[str] | None,
    instances: bool,
    ignored: Sequence[int],
    files: list[tuple[Path, Path, Path | None]],
) -> Listing:
    """The labels and entries of files: each image, its mask, and optionally its object mask."""
    if labels is None and instances:
        labels = [name for name, _ in entries if name.lower() not in {BACKGROUND, *IGNORED_NAMES}]
    classes = make_class_table(entries, labels, ignored)
    truths: list[Entry] = [
        (path, MaskFile(mask, classes, object_mask)) for path, mask, object_mask in files
    ]
    return classes.labels, truths


def read_classes(data: Path) -> list[tuple[str, Color | None]]:
    """Read the data set's classes.txt."""
    file = data / "classes.txt"
    if not file.exists():
        raise DlkitError("no such file; list the classes in it, one per line, from index 0", file)
    return read_class_table(file)


def read_camvid(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listing:
    entries = read_classes(data)
    list_file = data / f"{split}.txt"
    files: list[tuple[Path, Path, Path | None]] = []
    if list_file.exists():
        for number, line in enumerate(lines(str(list_file)), 1):
            words = line.split()
            if len(words) == 2:
                image, mask = (resolve_path(data, word) for word in words)
                files.append((image, mask, None))
            elif words:
                skipped.add("line without an image and a mask", f"{list_file}:{number}")
    elif (data / split).is_dir():
        files = pair_files(data / split, data / f"{split}annot", None, skipped)
    else:
        raise DlkitError(f"no split {split!r}; it needs {list_file.name} or {split}/", data)
    return make_entries(entries, labels, instances, [len(entries)], files)


def resolve_path(data: Path, name: str) -> Path:
    """The path of a listed file, whose list may have been written for another root folder."""
    path = data / name.lstrip("/")
    return path if path.exists() else data / Path(*Path(name).parts[-2:])


def pair_files(
    folder: Path, masks: Path, objects: Path | None, skipped: Skipped
) -> list[tuple[Path, Path, Path | None]]:
    """Match the images of a folder with the masks of the same name; unmatched files are skipped."""
    pairs = []
    used = set()
    for image in sorted(path for path in folder.rglob("*") if image_files.is_image(path)):
        stem = image.relative_to(folder).with_suffix("")
        mask = find_mask(masks / stem)
        if mask is None:
            skipped.add("image without a mask", str(image))
            continue
        used.add(mask)
        pairs.append((image, mask, None if objects is None else find_mask(objects / stem)))
    for mask in sorted(path for path in masks.rglob("*") if image_files.is_image(path)):
        if mask not in used:
            skipped.add("mask without an image", str(mask))
    return pairs


def find_mask(stem: Path) -> Path | None:
    """The mask of that name with any suffix, also in capitals."""
    suffixes = (spelling for suffix in MASK_SUFFIXES for spelling in (suffix, suffix.upper()))
    paths = (stem.with_name(stem.name + suffix) for suffix in suffixes)
    return next((path for path in paths if path.exists()), None)


def read_folders(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listing:
    entries = read_classes(data)
    for spelling in (split, "valid") if split == "val" else (split,):
        for pattern in ("{kind}/{split}", "{split}/{kind}"):
            folder, masks, objects = (
                data / pattern.format(kind=kind, split=spelling)
                for kind in ("images", "masks", "instances")
            )
            if folder.is_dir():
                files = pair_files(folder, masks, objects if objects.is_dir() else None, skipped)
                return make_entries(entries, labels, instances, [], files)
    raise DlkitError(
        f"no split {split!r}; it needs {data / 'images' / split} or {data / split / 'images'}", data
    )


def read_voc(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listing:
    lists = data / "ImageSets" / "Segmentation"
    list_file = lists / f"{split}.txt"
    if not list_file.exists():
        splits = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "none"
        raise DlkitError(f"no split {split!r}; choose from {splits}", lists)
    own_classes = (data / "classes.txt").exists()
    entries = read_classes(data) if own_classes else [(name, None) for name in VOC_CLASSES]
    files: list[tuple[Path, Path, Path | None]] = []
    for name in (line.split()[0] for line in lines(str(list_file)) if line.strip()):
        objects = data / "SegmentationObject" / f"{name}.png"
        files.append(
            (
                image_files.with_image_suffix(data / "JPEGImages" / name),
                find_mask(data / "SegmentationClass" / name)
                or data / "SegmentationClass" / f"{name}.png",
                objects if objects.exists() else None,
            )
        )
    return make_entries(entries, labels, instances, [], files)


def read_coco(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listing:
    file = coco.annotation_file(data, split)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {c["id"]: str(c["name"]) for c in content["categories"]}
        if labels is None:
            labels = [*names.values()] if instances else [BACKGROUND, *names.values()]
        places = {label: place for place, label in enumerate(labels)}
        background = places.get(BACKGROUND, IGNORED)
        truths = {
            i["id"]: CocoTruth(int(i["width"]), int(i["height"]), background, [])
            for i in content["images"]
        }
        for a in content["annotations"]:
            where = f"{file}: annotation {a.get('id')}"
            name = names.get(a["category_id"], f"id {a['category_id']}")
            if a["image_id"] not in truths:
                skipped.add("annotation of no image", where)
            elif name not in places:
                skipped.add("unknown class", f"{where} ({name})")
            elif not a.get("segmentation"):
                skipped.add("annotation without a mask", where)
            else:
                truths[a["image_id"]].annotations.append((places[name], a))
        entries: list[Entry] = [
            (coco.image_path(data, file, split, i["file_name"]), truths[i["id"]])
            for i in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DlkitError(f"not a COCO file ({type(error).__name__}: {error})", file) from error
    return labels, entries
