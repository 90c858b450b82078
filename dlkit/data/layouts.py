"""Writers of data sets in the layouts that dlkit reads, into an empty folder.

A writer gets the splits as records of samples. `lost` of a layout names what it cannot hold.
"""

import csv
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree

from dlkit.core.datasets.classes import read_line
from dlkit.core.datasets.samples import ALL, Annotation, Sample
from dlkit.core.io import tars
from dlkit.core.io.colors import Color
from dlkit.core.io.splits import is_split_name
from dlkit.core.io.walk import is_hidden
from dlkit.core.vision import images

MAX_SAMPLES = 10_000  # of one tar file
MAX_NAME = 255  # bytes of a folder's name


@dataclass(frozen=True)
class Content:
    """A data set to write: its classes, the samples of each split, and the colors in masks.

    `colors` are those of the classes, empty where the data set has no table of them.
    """

    classes: tuple[str, ...]
    splits: dict[str, list[Sample]]
    colors: tuple[Color | None, ...] = ()

    def samples(self) -> Iterator[Sample]:
        """All samples."""
        for samples in self.splits.values():
            yield from samples

    def annotations(self) -> Iterator[Annotation]:
        """All annotations."""
        for sample in self.samples():
            yield from sample.annotations

    def labels(self) -> list[str]:
        """The classes, and after them the labels that are not listed among them."""
        used = {annotation.label for annotation in self.annotations()}
        used |= {label for sample in self.samples() for label in sample.labels}
        return list(dict.fromkeys([*self.classes, *sorted(used)]))


@dataclass(frozen=True)
class Layout:
    """A layout: its writer, and the function that yields what it cannot hold, one name a case."""

    write: Callable[[Content, Path, "Images"], None]
    lost: Callable[[Content], Iterator[str]]


class Images:
    """Names of the images in the new data set, each once; they are linked, or copied.

    The name is the path below the folder that all have in common, with `_` for `/`.
    """

    def __init__(self, samples: Iterable[Sample], copy: bool) -> None:
        self.copy = copy
        paths = list(dict.fromkeys(str(sample.path) for sample in samples))
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
        common = os.path.commonpath(folders) if folders else ""
        self.names: dict[str, str] = {}
        taken: Counter[str] = Counter()
        for path in paths:
            stem, suffix = os.path.splitext(os.path.basename(path))
            name = stem
            if taken[name.casefold()]:
                name = os.path.splitext(os.path.relpath(os.path.abspath(path), common))[0]
                name = name.replace(os.sep, "_")
            while taken[name.casefold()]:
                name += "_"
            taken[name.casefold()] += 1
            self.names[path] = name + suffix

    def name(self, path: Path) -> str:
        """The name of an image in the new data set."""
        return self.names[str(path)]

    def stem(self, path: Path) -> str:
        """Its name without the suffix."""
        return os.path.splitext(self.name(path))[0]

    def put(self, path: Path, folder: Path) -> Path:
        """Link or copy the image into a folder; its new path."""
        return self.put_as(path, folder / self.name(path))

    def put_as(self, path: Path, target: Path) -> Path:
        """Link or copy a file to a path."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if tars.split_path(str(path)) is not None:
            target.write_bytes(content_of(path))
        elif self.copy:
            shutil.copyfile(path, target)
        else:
            target.symlink_to(path.resolve())
        return target


def content_of(path: Path) -> bytes:
    """The bytes of a file, or of a member of a tar file."""
    member = tars.split_path(str(path))
    return path.read_bytes() if member is None else tars.read(*member)


def size_of(sample: Sample) -> tuple[int, int]:
    """Width and height of a sample's upright image."""
    return images.size(sample.path)


def has_splits(content: Content) -> bool:
    return set(content.splits) != {ALL}


# ---- COCO ----------------------------------------------------------------------------------------


def write_coco(content: Content, out: Path, target: Images) -> None:
    """images/SPLIT/ and annotations/{instances,captions}_SPLIT.json; keypoints are in instances."""
    labels = content.labels()
    numbers = {label: number for number, label in enumerate(labels, 1)}
    captioned = any(sample.captions for sample in content.samples())
    points = max((len(a.keypoints) for a in content.annotations()), default=0)
    categories: list[dict[str, Any]] = [
        {"id": number, "name": label} for label, number in numbers.items()
    ]
    for category in categories if points else []:
        category |= {"keypoints": [str(k) for k in range(points)], "skeleton": []}
    for split, samples in content.splits.items():
        folder = out / "images" / split if has_splits(content) else out / "images"
        records: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        captions: list[dict[str, Any]] = []
        for number, sample in enumerate(samples, 1):
            width, height = size_of(sample)
            name = target.put(sample.path, folder).name
            records.append({"id": number, "file_name": name, "width": width, "height": height})
            for annotation in sample.annotations:
                record = coco_object(annotation, numbers)
                objects.append({"id": len(objects) + 1, "image_id": number, **record})
            captions += [
                {"id": len(captions) + k, "image_id": number, "caption": caption}
                for k, caption in enumerate(sample.captions, 1)
            ]
        suffix = f"_{split}" if has_splits(content) else ""
        described = {"images": records, "annotations": objects, "categories": categories}
        if labels or not captioned:
            write_json(out / "annotations" / f"instances{suffix}.json", described)
        if captioned:
            described = {"images": records, "annotations": captions}
            write_json(out / "annotations" / f"captions{suffix}.json", described)


def coco_object(annotation: Annotation, numbers: dict[str, int]) -> dict[str, Any]:
    """The record of an annotation, without its ids."""
    record: dict[str, Any] = {"category_id": numbers[annotation.label]}
    box = annotation.box
    if box is not None:
        x1, y1, x2, y2 = box
        record |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    if annotation.area is not None:
        record["area"] = annotation.area
    if annotation.rle is not None:
        record["segmentation"] = annotation.rle
    elif annotation.polygons:
        record["segmentation"] = [list(polygon) for polygon in annotation.polygons]
    if annotation.keypoints:
        record["keypoints"] = [v for p in annotation.keypoints for v in (p.x, p.y, p.visibility)]
        record["num_keypoints"] = sum(point.visibility > 0 for point in annotation.keypoints)
    record["iscrowd"] = int(annotation.crowd)
    return record


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def lost_in_coco(content: Content) -> Iterator[str]:
    for sample in content.samples():
        if sample.labels:
            yield "labels of whole images"
        yield from lost_masks(sample)
    for annotation in content.annotations():
        yield from lost_flags(annotation)


# ---- Pascal VOC ----------------------------------------------------------------------------------


def write_voc(content: Content, out: Path, target: Images) -> None:
    """Annotations/, JPEGImages/ and ImageSets/Main/; boxes count pixels from 1, both ends in."""
    write_classes(content, out)
    has_masks = any(sample.mask is not None for sample in content.samples())
    for split, samples in content.splits.items():
        stems = []
        for sample in samples:
            stem = target.stem(sample.path)
            stems.append(stem)
            target.put(sample.path, out / "JPEGImages")
            if has_masks and sample.mask is not None:
                mask = out / "SegmentationClass" / f"{stem}{sample.mask.suffix.lower()}"
                target.put_as(sample.mask, mask)
            if has_masks and sample.object_mask is not None:
                mask = out / "SegmentationObject" / f"{stem}{sample.object_mask.suffix.lower()}"
                target.put_as(sample.object_mask, mask)
            write_voc_xml(sample, target.name(sample.path), out / "Annotations" / f"{stem}.xml")
        for kind in ("Main", *["Segmentation"] * has_masks):
            listing = out / "ImageSets" / kind / f"{split}.txt"
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def write_voc_xml(sample: Sample, name: str, path: Path) -> None:
    """The file of one image."""
    root = ElementTree.Element("annotation")
    add(root, "filename", name)
    width, height = size_of(sample)
    size = add(root, "size")
    for key, value in {"width": width, "height": height, "depth": 3}.items():
        add(size, key, str(value))
    for annotation in sample.annotations:
        if annotation.box is None:
            continue
        entry = add(root, "object")
        add(entry, "name", annotation.label)
        add(entry, "truncated", str(int(annotation.truncated)))
        add(entry, "difficult", str(int(annotation.difficult)))
        x1, y1, x2, y2 = annotation.box
        place = add(entry, "bndbox")
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        for key, number in corners.items():
            add(place, key, f"{number:.17g}")
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8"))


def add(parent: ElementTree.Element, name: str, text: str | None = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, name)
    child.text = text
    return child


def lost_in_voc(content: Content) -> Iterator[str]:
    yield from lost_with_images(content)
    yield from lost_in_a_list(content)
    for annotation in content.annotations():
        yield from lost_shapes(annotation)
        if annotation.box is None:
            yield "annotations without a box"
        if annotation.crowd:
            yield "crowd flags"
        if annotation.area is not None:
            yield "areas"
        if annotation.label != annotation.label.strip():
            yield "spaces around labels"


def lost_with_images(content: Content) -> Iterator[str]:
    """Labels and captions of whole images."""
    for sample in content.samples():
        if sample.labels:
            yield "labels of whole images"
        if sample.captions:
            yield "captions"


def lost_masks(sample: Sample) -> Iterator[str]:
    """Files of masks of classes and of objects."""
    if sample.mask is not None:
        yield "mask files"
    if sample.object_mask is not None:
        yield "mask files of objects"


def lost_flags(annotation: Annotation) -> Iterator[str]:
    """Pascal VOC's flags."""
    if annotation.difficult:
        yield "the flag difficult"
    if annotation.truncated:
        yield "the flag truncated"


def lost_in_a_list(content: Content) -> Iterator[str]:
    """Labels that classes.txt would give back as others, and colors that not all labels have."""
    for label in content.labels():
        several = len(label.splitlines()) != 1 or label.count(":") == 3
        if label.startswith("#") or several or read_line(label.strip(), "") != (label, None):
            yield "labels that a line of classes.txt cannot be"
    if content.colors and len(content.colors) != len(content.labels()):
        yield "colors of classes, of which some have none"


def lost_shapes(annotation: Annotation) -> Iterator[str]:
    """Polygons, masks and keypoints."""
    if annotation.polygons:
        yield "polygons"
    if annotation.rle is not None:
        yield "run-length masks"
    if annotation.keypoints:
        yield "keypoints"


# ---- YOLO ----------------------------------------------------------------------------------------


def write_yolo(content: Content, out: Path, target: Images) -> None:
    """images/SPLIT/, labels/SPLIT/ and data.yaml; lines are boxes, polygons or keypoints."""
    import yaml

    labels = content.labels()
    numbers = {label: number for number, label in enumerate(labels)}
    described: dict[str, Any] = {"path": "."}
    for split, samples in content.splits.items():
        name = split if has_splits(content) else "train"
        described[name] = f"images/{name}"
        for kind in ("images", "labels"):
            (out / kind / name).mkdir(parents=True)
        for sample in samples:
            target.put(sample.path, out / "images" / name)
            size = size_of(sample)
            lines = [yolo_line(a, size, numbers) for a in sample.annotations]
            file = out / "labels" / name / f"{target.stem(sample.path)}.txt"
            file.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")
    points = max((len(a.keypoints) for a in content.annotations()), default=0)
    if points:
        described["kpt_shape"] = [points, 3]
    described |= {"nc": len(labels), "names": dict(enumerate(labels))}
    (out / "data.yaml").write_text(
        yaml.safe_dump(described, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def yolo_line(annotation: Annotation, size: tuple[int, int], numbers: dict[str, int]) -> str:
    """`class x y width height` and keypoints, or `class x y x y ...`; "" without a shape."""
    width, height = size
    first = str(numbers[annotation.label])
    if annotation.polygons:
        (polygon, *_) = annotation.polygons
        values = [v / (height if k % 2 else width) for k, v in enumerate(polygon)]
    elif annotation.box is not None:
        x1, y1, x2, y2 = annotation.box
        center = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
        values = [*center, (x2 - x1) / width, (y2 - y1) / height]
        for point in annotation.keypoints:
            values += [point.x / width, point.y / height, point.visibility]
    else:
        return ""
    return " ".join([first, *(f"{value:.17g}" for value in values)])


def lost_in_yolo(content: Content) -> Iterator[str]:
    yield from lost_with_images(content)
    shaped = any(annotation.polygons for annotation in content.annotations())
    points = {len(annotation.keypoints) for annotation in content.annotations()}
    for sample in content.samples():
        yield from lost_masks(sample)
    for annotation in content.annotations():
        yield from lost_flags(annotation)
        if annotation.rle is not None:
            yield "run-length masks"
        if len(annotation.polygons) > 1:
            yield "second polygons of an object"
        if shaped and not annotation.polygons:
            yield "boxes without a polygon beside polygons"
        if shaped and annotation.keypoints:
            yield "keypoints of objects with polygons"
        if len(points) > 1 and not shaped:
            yield "unequal numbers of keypoints"
        if annotation.crowd:
            yield "crowd flags"
        if annotation.area is not None:
            yield "areas"
        if annotation.box is None and not annotation.polygons:
            yield "annotations without a box"


# ---- Tables, folders, tar files ------------------------------------------------------------------


def write_csv(content: Content, out: Path, target: Images) -> None:
    """data.csv with path, split, and label or caption; the images are in images/."""
    captioned = any(sample.captions for sample in content.samples())
    with (out / "data.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        split_column = ["split"] if has_splits(content) else []
        rows.writerow(["path", *split_column, "caption" if captioned else "label"])
        for split, samples in content.splits.items():
            for sample in samples:
                path = target.put(sample.path, out / "images").relative_to(out).as_posix()
                values = sample.captions if captioned else [";".join(sample.labels)]
                rows.writerows([path, *[split] * len(split_column), value] for value in values)


def lost_without_annotations(content: Content) -> Iterator[str]:
    """Annotated objects and masks."""
    for sample in content.samples():
        yield from ("annotated objects" for _ in sample.annotations)
        yield from lost_masks(sample)


def lost_in_csv(content: Content) -> Iterator[str]:
    yield from lost_without_annotations(content)
    captioned = any(sample.captions for sample in content.samples())
    for sample in content.samples():
        if captioned and not sample.captions:
            yield "images without a caption beside captions"
        elif not captioned and not sample.labels:
            yield "images without a label or a caption"
        if captioned and sample.labels:
            yield "labels beside captions"
        if any(";" in label or label != label.strip() for label in sample.labels):
            yield "labels with a semicolon or spaces around them"
        if any(caption != " ".join(caption.split()) for caption in sample.captions):
            yield "line breaks and repeated spaces of captions"


def write_folders(content: Content, out: Path, target: Images) -> None:
    """SPLIT/LABEL/; or images/SPLIT/ and masks/SPLIT/ with classes.txt."""
    masked = any(sample.mask is not None for sample in content.samples())
    if masked:
        write_classes(content, out)
    for split, samples in content.splits.items():
        for sample in samples:
            if sample.mask is not None:
                image = target.put(sample.path, out / "images" / split)
                mask = f"{image.stem}{sample.mask.suffix.lower()}"
                target.put_as(sample.mask, out / "masks" / split / mask)
                if sample.object_mask is not None:
                    target.put_as(sample.object_mask, out / "instances" / split / mask)
            elif len(sample.labels) == 1 and not masked:
                folder = out / split if has_splits(content) else out
                target.put(sample.path, folder / sample.labels[0])


def lost_in_folders(content: Content) -> Iterator[str]:
    masked = any(sample.mask is not None for sample in content.samples())
    if masked:
        yield from lost_in_a_list(content)
    for sample in content.samples():
        yield from ("annotated objects" for _ in sample.annotations)
        yield from ("captions" for _ in sample.captions)
        if masked and sample.labels:
            yield "labels of whole images beside masks"
        if not masked and len(sample.labels) != 1:
            yield "images with no label or several"
        if masked and sample.mask is None:
            yield "images without a mask beside masks"
        if any(unfit_for_a_folder(label) for label in sample.labels):
            yield "labels that cannot be names of folders"


def unfit_for_a_folder(label: str) -> bool:
    return (
        label != PurePath(label).name
        or is_hidden(label, True)
        or is_split_name(label)
        or "\0" in label
        or len(label.encode()) > MAX_NAME
    )


def write_webdataset(content: Content, out: Path, target: Images) -> None:
    """SPLIT-000.tar ... with the image, .cls and .txt of each sample."""
    for split, samples in content.splits.items():
        name = split if has_splits(content) else "data"
        for shard, start in enumerate(range(0, len(samples), MAX_SAMPLES)):
            with tarfile.open(out / f"{name}-{shard:03}.tar", "w") as tar:
                for number, sample in enumerate(samples[start : start + MAX_SAMPLES], start):
                    for suffix, content_bytes in parts_of(sample):
                        member = tarfile.TarInfo(f"{number:08}{suffix}")
                        member.size = len(content_bytes)
                        tar.addfile(member, BytesIO(content_bytes))


def parts_of(sample: Sample) -> Iterator[tuple[str, bytes]]:
    """The members of a sample: suffix and content."""
    yield sample.path.suffix.lower(), content_of(sample.path)
    if sample.labels:
        yield ".cls", ";".join(sample.labels).encode()
    if sample.captions:
        yield ".txt", "\n".join(sample.captions).encode()


def lost_in_webdataset(content: Content) -> Iterator[str]:
    yield from lost_without_annotations(content)
    for sample in content.samples():
        if len(sample.labels) > 1:
            yield "several labels of an image"
        if any(label != label.strip() for label in sample.labels):
            yield "spaces around labels"
        if any(caption != " ".join(caption.split()) for caption in sample.captions):
            yield "line breaks and repeated spaces of captions"


def write_classes(content: Content, out: Path) -> None:
    """The file classes.txt, one class a line."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "classes.txt").write_text(
        "".join(f"{line}\n" for line in class_lines(content)), encoding="utf-8"
    )


def class_lines(content: Content) -> list[str]:
    """The labels, with their colors where all have one."""
    labels = content.labels()
    if len(content.colors) != len(labels):
        return labels
    lines = []
    for label, color in zip(labels, content.colors, strict=True):
        lines.append(label if color is None else f"{label} {color[0]} {color[1]} {color[2]}")
    return lines


LAYOUTS = {
    "coco": Layout(write_coco, lost_in_coco),
    "voc": Layout(write_voc, lost_in_voc),
    "yolo": Layout(write_yolo, lost_in_yolo),
    "csv": Layout(write_csv, lost_in_csv),
    "folder": Layout(write_folders, lost_in_folders),
    "webdataset": Layout(write_webdataset, lost_in_webdataset),
}
