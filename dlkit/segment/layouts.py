"""Reading images and masks in the usual layouts; which one it is, is seen from the files.

    CamVid      SPLIT.txt with lines `image mask`, or SPLIT/ and SPLITannot/; classes.txt
    folders     images/SPLIT/ and masks/SPLIT/, or SPLIT/images/ and SPLIT/masks/; instances/ with
                masks of objects if any; classes.txt
    Pascal VOC  ImageSets/Segmentation/SPLIT.txt, JPEGImages/, SegmentationClass/,
                SegmentationObject/ if any; classes.txt where the classes are not VOC's
    COCO        annotations/instances_SPLIT*.json or SPLIT/_annotations.coco.json, and its images

A mask holds an index for each pixel (gray or palette PNG), or the color of its class. classes.txt
has a class a line, in the order of the indices, with `red green blue` behind the name where there
is a table of colors. Value 255, a class called void, ignore or unlabeled, and in CamVid's layout
the index after the last class mean that a pixel is of no class.
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
    NO_CLASS,
    BadMask,
    CocoTruth,
    Color,
    MaskFile,
    Object,
    classes_of,
)

__all__ = ["IGNORED", "Annotated", "Object", "Sample", "read_split"]

VOC = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
]  # fmt: skip
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")

Entry = tuple[Path, MaskFile | CocoTruth]


@dataclass(frozen=True)
class Sample:
    """An image, its truth, and how many pixels (C,) each class has in it."""

    path: Path
    width: int
    height: int
    truth: MaskFile | CocoTruth
    pixels: np.ndarray


@dataclass(frozen=True)
class Annotated:
    """One split of a data set."""

    samples: list[Sample]
    labels: list[str]
    skipped: Skipped


# What a layout's reader returns: the labels, and each image with its truth.
Listed = tuple[list[str], list[Entry]]


def read_split(
    data: Path,
    split: str,
    labels: list[str] | None = None,
    instances: bool = False,
    objects: bool = False,
) -> Annotated:
    """The images of one split and their masks; `labels` fixes the classes and their order.

    With `instances` the classes are those of objects, without the background; with `objects`, too,
    each image needs the masks of its objects. Masks that do not fit their image or hold unknown
    values are skipped, counted and named, as are images that cannot be read. Raises DlkitError
    when the layout is none of those above, or nothing is left.
    """
    if not data.exists():
        raise DlkitError(f"{data}: no such folder")
    skipped = Skipped()
    names, entries = layout(data)(data, split, labels, instances, skipped)
    check = partial(checked, count=len(names), objects=instances or objects)
    with ThreadPoolExecutor() as pool:
        found = list(track(pool.map(check, entries), f"checking {split}", len(entries)))
    for bad in found:
        if isinstance(bad, BadMask):
            skipped.add(bad.kind, bad.where)
    skipped.report()
    samples = [sample for sample in found if isinstance(sample, Sample)]
    if not samples:
        why = f": {next(iter(skipped.places))}" if skipped.places else ""
        raise DlkitError(f"{data}: no image of {split!r} with a mask that can be used{why}")
    return Annotated(samples, names, skipped)


def layout(data: Path) -> Callable[..., Listed]:
    """The reader of the layout that the folder has."""
    if (data / "SegmentationClass").is_dir() and (data / "ImageSets").is_dir():
        return read_voc
    if (data / "masks").is_dir() or next(data.glob("*/masks"), None):
        return read_folders
    if data.suffix == ".json" or next(coco.files(data), None):
        return read_coco
    if next(data.glob("*annot"), None):
        return read_camvid
    raise DlkitError(
        f"{data}: no masks in a known layout: images/ and masks/, VOC's SegmentationClass/ and"
        " ImageSets/, CamVid's train/ and trainannot/, COCO's annotations/*.json (see the README)"
    )


def checked(entry: Entry, count: int, objects: bool) -> Sample | BadMask:
    """The sample, or what is wrong with it."""
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
        of = truth.path if isinstance(truth, MaskFile) else path
        sizes = f"{mask.shape[1]} x {mask.shape[0]}, its image {width} x {height}"
        return BadMask("mask of another size", f"{of} ({sizes})")
    pixels = np.bincount(mask.reshape(-1), minlength=256)[:IGNORED]
    return Sample(path, width, height, truth, pixels[:count])


def listing(file: Path) -> list[tuple[str, Color | None]]:
    """The classes of a file, a line each: a name, and perhaps `red green blue` behind it."""
    entries: list[tuple[str, Color | None]] = []
    for number, line in enumerate(lines(str(file)), 1):
        words = line.replace(",", " ").split()
        if len(words) > 3 and all(word.isdigit() for word in words[-3:]):
            red, green, blue = (int(word) for word in words[-3:])
            if max(red, green, blue) > 255:
                raise DlkitError(f"{file}:{number}: a color has three numbers from 0 to 255")
            entries.append((" ".join(words[:-3]), (red, green, blue)))
        elif words:
            entries.append((line.strip(), None))
    names = [name for name, _ in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DlkitError(f"{file}: the class {twice} stands there twice")
    return entries


def of_files(
    entries: Sequence[tuple[str, Color | None]],
    labels: list[str] | None,
    instances: bool,
    ignored: Sequence[int],
    files: list[tuple[Path, Path, Path | None]],
) -> Listed:
    """What a reader returns, from each image's path, its mask's, and that of its objects' mask."""
    if labels is None and instances:
        labels = [name for name, _ in entries if name.lower() not in {BACKGROUND, *NO_CLASS}]
    classes = classes_of(entries, labels, ignored)
    truths: list[Entry] = [(path, MaskFile(mask, classes, own)) for path, mask, own in files]
    return classes.labels, truths


def class_file(data: Path) -> list[tuple[str, Color | None]]:
    file = data / "classes.txt"
    if not file.exists():
        raise DlkitError(f"{file}: no such file; it names the classes, one a line, from index 0 on")
    return listing(file)


def read_camvid(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listed:
    entries = class_file(data)
    list_file = data / f"{split}.txt"
    files: list[tuple[Path, Path, Path | None]] = []
    if list_file.exists():
        for number, line in enumerate(lines(str(list_file)), 1):
            words = line.split()
            if len(words) == 2:
                image, mask = (found_below(data, word) for word in words)
                files.append((image, mask, None))
            elif words:
                skipped.add("line without an image and a mask", f"{list_file}:{number}")
    elif (data / split).is_dir():
        files = paired(data / split, data / f"{split}annot", None, skipped)
    else:
        raise DlkitError(f"{data}: no split {split!r}: neither {list_file.name} nor {split}/")
    return of_files(entries, labels, instances, [len(entries)], files)


def found_below(data: Path, name: str) -> Path:
    """The file of a list, which may have been written where the data lay elsewhere."""
    path = data / name.lstrip("/")
    return path if path.exists() else data / Path(*Path(name).parts[-2:])


def paired(
    folder: Path, masks: Path, objects: Path | None, skipped: Skipped
) -> list[tuple[Path, Path, Path | None]]:
    """The images of a folder with the masks of the same name; what is alone is skipped."""
    found = []
    used = set()
    for image in sorted(path for path in folder.rglob("*") if images.is_image(path)):
        stem = image.relative_to(folder).with_suffix("")
        mask = named(masks / stem)
        if mask is None:
            skipped.add("image without a mask", str(image))
            continue
        used.add(mask)
        found.append((image, mask, None if objects is None else named(objects / stem)))
    for mask in sorted(path for path in masks.rglob("*") if images.is_image(path)):
        if mask not in used:
            skipped.add("mask without an image", str(mask))
    return found


def named(stem: Path) -> Path | None:
    """The mask of that name, whatever its suffix."""
    paths = (stem.with_name(stem.name + suffix) for suffix in MASK_SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def read_folders(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listed:
    entries = class_file(data)
    for spelling in (split, "valid") if split == "val" else (split,):
        for pattern in ("{kind}/{split}", "{split}/{kind}"):
            folder, masks, objects = (
                data / pattern.format(kind=kind, split=spelling)
                for kind in ("images", "masks", "instances")
            )
            if folder.is_dir():
                there = objects if objects.is_dir() else None
                files = paired(folder, masks, there, skipped)
                return of_files(entries, labels, instances, [], files)
    raise DlkitError(
        f"{data}: no split {split!r}: neither {data / 'images' / split}"
        f" nor {data / split / 'images'}"
    )


def read_voc(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listed:
    lists = data / "ImageSets" / "Segmentation"
    list_file = lists / f"{split}.txt"
    if not list_file.exists():
        there = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "none"
        raise DlkitError(f"{data}: no split {split!r} in ImageSets/Segmentation: there is {there}")
    named_here = (data / "classes.txt").exists()
    entries = class_file(data) if named_here else [(name, None) for name in VOC]
    files: list[tuple[Path, Path, Path | None]] = []
    for name in (line.split()[0] for line in lines(str(list_file)) if line.strip()):
        objects = data / "SegmentationObject" / f"{name}.png"
        files.append(
            (
                image_files.with_image_suffix(data / "JPEGImages" / name),
                data / "SegmentationClass" / f"{name}.png",
                objects if objects.exists() else None,
            )
        )
    return of_files(entries, labels, instances, [], files)


def read_coco(
    data: Path, split: str, labels: list[str] | None, instances: bool, skipped: Skipped
) -> Listed:
    file = coco.annotations_of(data, split)
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
        raise DlkitError(f"{file}: not a COCO file ({type(error).__name__}: {error})") from error
    return labels, entries
