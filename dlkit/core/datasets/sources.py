"""The layout of a data set, found by its files. Loads no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlkit.core.datasets.coco import Coco, json_files
from dlkit.core.datasets.samples import Source
from dlkit.core.datasets.voc import Voc, VocBeside, has_xml
from dlkit.core.datasets.yolo import Yolo
from dlkit.core.errors import DlkitError
from dlkit.core.progress import log

Need = Literal["boxes", "masks"]


@dataclass(frozen=True)
class Layout:
    """A layout: the files by which it is known, and its source."""

    name: str
    files: str
    found: Callable[[Path], bool]
    open: Callable[[Path], Source]
    needs: tuple[Need, ...] = ("boxes", "masks")


def has_labels(data: Path) -> bool:
    """Whether a folder has label files of YOLO, or describes them."""
    if (data / "labels").is_dir() or any(path.is_dir() for path in data.glob("*/labels")):
        return True
    return any((data / name).is_file() for name in ("data.yaml", "data.yml"))


def has_xml_beside(data: Path) -> bool:
    """Whether a folder, or one in it, has XML files of Pascal VOC beside images."""
    return not (data / "Annotations").is_dir() and any(map(has_xml, [data, *data.glob("*/")]))


LAYOUTS = (
    Layout(
        "Pascal VOC's masks",
        "SegmentationClass/ and JPEGImages/",
        lambda data: (data / "SegmentationClass").is_dir(),
        lambda data: Voc(data, masks=True),
        ("masks",),
    ),
    Layout(
        "Pascal VOC",
        "Annotations/ and JPEGImages/",
        lambda data: (data / "Annotations").is_dir(),
        lambda data: Voc(data, masks=False),
        ("boxes",),
    ),
    Layout(
        "YOLO", "images/ and labels/, or data.yaml", has_labels, Yolo
    ),
    Layout(
        "COCO",
        "annotations/*.json",
        lambda data: next(json_files(data), None) is not None,
        Coco,
    ),
    Layout(
        "XML files of Pascal VOC beside the images",
        "train/*.xml",
        has_xml_beside,
        VocBeside,
        ("boxes",),
    ),
)  # fmt: skip
OF_FILES = {".yaml": Yolo, ".yml": Yolo, ".json": Coco}


def find_source(data: Path, need: Need | None = None) -> Source:
    """The data set in a folder, a data.yaml or a JSON file of annotations.

    Raises DlkitError, with what was looked for, if the layout is unknown or has no such
    annotations.
    """
    if not data.exists():
        raise DlkitError("no such folder", data)
    if data.is_file():
        if data.suffix.lower() not in OF_FILES:
            raise DlkitError(
                f"not a data set in a known layout; give a folder, or a file {', '.join(OF_FILES)}",
                data,
            )
        open_file: Callable[[Path], Source] = OF_FILES[data.suffix.lower()]
        return open_file(data)
    layouts = [layout for layout in LAYOUTS if need is None or need in layout.needs]
    found = [layout for layout in layouts if layout.found(data)]
    if not found:
        known = "; ".join(f"{layout.name} ({layout.files})" for layout in layouts)
        raise DlkitError(f"no {need or 'data'} in a known layout: {known}", data)
    if len(found) > 1:
        others = ", ".join(layout.name for layout in found[1:])
        log(f"{data}: read as {found[0].name}; it may also be {others}")
    return found[0].open(data)
