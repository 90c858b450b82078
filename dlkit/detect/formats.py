"""Writers of detections as COCO json, Pascal VOC xml and YOLO txt. Loads no torch."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, note_saved, whole_file
from dlkit.core.io.writers import WRITERS

if TYPE_CHECKING:
    from dlkit.detect.infer import Detections


@dataclass(frozen=True)
class WrittenFile:
    """A result of the formats `voc` and `yolo`: the path of a file that was written."""

    path: str


def write_coco(
    results: Iterable["Detections | Failure"], file: TextIO, labels: Sequence[str]
) -> None:
    """Write one COCO data set: images, categories from 1 on, annotations with scores."""
    content: dict[str, list[dict[str, object]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": label} for i, label in enumerate(labels, 1)],
    }
    for result in results:
        if isinstance(result, Failure):
            continue
        image = len(content["images"]) + 1
        content["images"].append(
            {
                "id": image,
                "file_name": result.path,
                "width": result.width,
                "height": result.height,
            }
        )
        for found in result.objects:
            width, height = round(found.x2 - found.x1, 1), round(found.y2 - found.y1, 1)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image,
                    "category_id": labels.index(found.label) + 1,
                    "bbox": [found.x1, found.y1, width, height],
                    "area": round(width * height, 1),
                    "iscrowd": 0,
                    "score": found.score,
                }
            )
    print(json.dumps(content, ensure_ascii=False), file=file)


def write_files(
    results: Iterable["Detections | Failure"], format: str, folder: Path, labels: Sequence[str]
) -> Iterator[WrittenFile | Failure]:
    """Write a VOC xml or YOLO txt file for each image into the folder of `--output`."""
    to_text, suffix = FILE_FORMATS[format]
    names = FileNames(folder)
    if format == "yolo" and is_main_process():
        path = names.path_for("classes", ".txt")
        with whole_file(path) as partial:
            partial.write_text("".join(f"{label}\n" for label in labels))
        note_saved(path)
    for result in results:
        if isinstance(result, Failure):
            yield result
            continue
        try:
            path = names.path_for(result.path, suffix)
            if is_main_process():
                with whole_file(path) as partial:
                    partial.write_text(
                        to_text(result, labels), encoding="utf-8", errors="backslashreplace"
                    )
                note_saved(path)
        except DlkitError as error:
            yield Failure(result.path, error.reason_for(result.path))
            continue
        yield WrittenFile(str(path))


def voc_xml(result: "Detections", labels: Sequence[str]) -> str:
    """An annotation of Pascal VOC; pixels count from 1 and boxes include both ends."""
    import xml.etree.ElementTree as ET  # not for other formats

    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = Path(result.path).parent.name
    ET.SubElement(root, "filename").text = Path(result.path).name
    size = ET.SubElement(root, "size")
    for name, value in (("width", result.width), ("height", result.height), ("depth", 3)):
        ET.SubElement(size, name).text = str(value)
    for found in result.objects:
        thing = ET.SubElement(root, "object")
        ET.SubElement(thing, "name").text = found.label
        ET.SubElement(thing, "score").text = str(found.score)
        ET.SubElement(thing, "difficult").text = "0"
        box = ET.SubElement(thing, "bndbox")
        left, top = round(found.x1 + 1), round(found.y1 + 1)
        # A box thinner than a pixel still contains one.
        corners = (left, top, max(left, round(found.x2)), max(top, round(found.y2)))
        for name, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ET.SubElement(box, name).text = str(corner)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def yolo_lines(result: "Detections", labels: Sequence[str]) -> str:
    """Lines of `class x y width height`, center and size as fractions of the image."""
    lines = []
    for found in result.objects:
        x, y = (found.x1 + found.x2) / 2 / result.width, (found.y1 + found.y2) / 2 / result.height
        width, height = (found.x2 - found.x1) / result.width, (found.y2 - found.y1) / result.height
        lines.append(f"{labels.index(found.label)} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n")
    return "".join(lines)


FILE_FORMATS = {"voc": (voc_xml, ".xml"), "yolo": (yolo_lines, ".txt")}  # a file per image
FORMATS = (*WRITERS, "coco", *FILE_FORMATS)
