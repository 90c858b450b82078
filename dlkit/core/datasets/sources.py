"""The layout of a data set, found by its files. Loads no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlkit.core.datasets.camvid import CamVid
from dlkit.core.datasets.coco import POSES, Coco, json_files
from dlkit.core.datasets.coco_captions import CocoCaptions
from dlkit.core.datasets.cvat import ANNOTATIONS, Cvat
from dlkit.core.datasets.flickr import Flickr, captions_file
from dlkit.core.datasets.folders import ClassFolders, visible_folders
from dlkit.core.datasets.keypoint_tables import KeypointTables
from dlkit.core.datasets.labelme import LabelMe, has_shapes
from dlkit.core.datasets.mask_folders import MaskFolders
from dlkit.core.datasets.samples import Source
from dlkit.core.datasets.shards import Shards, find_tars
from dlkit.core.datasets.tables import SUFFIXES as TABLES
from dlkit.core.datasets.tables import Kind, Tables, has_tables
from dlkit.core.datasets.voc import Voc, VocBeside, has_xml
from dlkit.core.datasets.yolo import Yolo
from dlkit.core.errors import DlkitError
from dlkit.core.io.walk import suffix_of
from dlkit.core.progress import log

Need = Literal["boxes", "masks", "labels", "captions", "keypoints"]

KINDS: dict[Need | None, Kind] = {"labels": "label", "captions": "caption"}


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
        "folders",
        "images/ and masks/, or train/images/ and train/masks/",
        lambda data: any(path.is_dir() for path in [data / "masks", *data.glob("*/masks")]),
        MaskFolders,
        ("masks",),
    ),
    Layout(
        "CamVid",
        "train/ and trainannot/",
        lambda data: any(path.is_dir() for path in data.glob("*annot")),
        CamVid,
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
        "YOLO",
        "images/ and labels/, or data.yaml",
        has_labels,
        Yolo,
        ("boxes", "masks", "keypoints"),
    ),
    Layout(
        "COCO",
        "annotations/*.json",
        lambda data: next(json_files(data), None) is not None,
        Coco,
    ),
    Layout(
        "CVAT for images",
        "annotations.xml and images/",
        lambda data: (data / ANNOTATIONS).is_file(),
        Cvat,
    ),
    Layout(
        "LabelMe",
        "train/*.json, one for each image",
        lambda data: any(map(has_shapes, [data, *data.glob("*/")])),
        LabelMe,
    ),
    Layout(
        "XML files of Pascal VOC beside the images",
        "train/*.xml",
        has_xml_beside,
        VocBeside,
        ("boxes",),
    ),
    Layout(
        "COCO's keypoints",
        "annotations/person_keypoints_*.json",
        lambda data: next(json_files(data), None) is not None,
        lambda data: Coco(data, POSES),
        ("keypoints",),
    ),
    Layout(
        "tables of keypoints",
        "train.csv with file, x1, y1, x2, y2 ...",
        has_tables,
        KeypointTables,
        ("keypoints",),
    ),
    Layout(
        "COCO's captions",
        "annotations/captions_*.json",
        lambda data: next(json_files(data), None) is not None,
        CocoCaptions,
        ("captions",),
    ),
    Layout(
        "Flickr8k",
        "*.token.txt or captions.txt",
        lambda data: captions_file(data) is not None,
        Flickr,
        ("captions",),
    ),
    Layout(
        "WebDataset's captions",
        "*.tar of 7.jpg and 7.txt",
        lambda data: bool(find_tars(data)),
        lambda data: Shards(data, "caption"),
        ("captions",),
    ),
    Layout(
        "tables of captions",
        "train.csv with path and caption",
        has_tables,
        lambda data: Tables(data, "caption"),
        ("captions",),
    ),
    Layout(
        "WebDataset",
        "*.tar of 7.jpg and 7.cls",
        lambda data: bool(find_tars(data)),
        lambda data: Shards(data, "label"),
        ("labels",),
    ),
    Layout(
        "tables of labels",
        "train.csv with path and label",
        has_tables,
        lambda data: Tables(data, "label"),
        ("labels",),
    ),
)
FOLDERS = Layout(
    "folders of labels",
    "train/LABEL/*.jpg or LABEL/*.jpg",
    lambda data: next(visible_folders(data), None) is not None,
    ClassFolders,
    ("labels",),
)  # what any folder with folders may be


def find_source(data: Path, need: Need | None = None) -> Source:
    """The data set in a folder, a data.yaml, a JSON file of annotations, a table or a tar file.

    Raises DlkitError, with what was looked for, if the layout is unknown or has no such
    annotations.
    """
    if not data.exists():
        raise DlkitError("no such folder or file", data)
    if data.is_file():
        return open_file(data, need)
    layouts = [layout for layout in LAYOUTS if need is None or need in layout.needs]
    found = [layout for layout in layouts if layout.found(data)]
    if not found and need in {None, *FOLDERS.needs}:
        layouts.append(FOLDERS)
        found = [layout for layout in layouts if layout.found(data)]
    if not found:
        known = "; ".join(f"{layout.name} ({layout.files})" for layout in layouts)
        raise DlkitError(f"no {need or 'data'} in a known layout: {known}", data)
    if need is not None and len(found) > 1:
        others = ", ".join(layout.name for layout in found[1:])
        log(f"{data}: read as {found[0].name}; it may also be {others}")
    return found[0].open(data)


def open_file(data: Path, need: Need | None) -> Source:
    """The data set that a file is, or describes."""
    suffix = suffix_of(data.name)
    kind = KINDS.get(need)
    if suffix in {".yaml", ".yml"} and kind is None:
        return Yolo(data)
    if suffix == ".json":
        if need == "captions":
            return CocoCaptions(data)
        return Coco(data, POSES) if need == "keypoints" else Coco(data)
    if suffix == ".xml":
        return Cvat(data)
    if suffix == ".tar":
        return Shards(data, kind)
    if need == "keypoints" and suffix in TABLES:
        return KeypointTables(data)
    if suffix in TABLES or need == "labels":
        return Tables(data, kind)
    if need == "captions":
        return Flickr(data)
    known = ", ".join((".yaml", ".json", ".xml", ".tar", *TABLES))
    raise DlkitError(f"not a data set in a known layout; give a folder, or a file {known}", data)
