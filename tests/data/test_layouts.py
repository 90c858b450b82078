"""Written data sets, read by other means: plain JSON, XML, YAML, CSV and tar, and pycocotools."""

import csv
import json
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from dlkit.core.datasets.classes import read_classes
from dlkit.core.datasets.samples import Annotation, Classes, Keypoint, Sample
from dlkit.core.datasets.sources import find_source
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.data.convert import convert, split_content
from dlkit.data.layouts import Content
from tests.data.helpers import paint

BOX = (4.0, 6.0, 40.0, 30.0)


@pytest.fixture
def boxes(tmp_path: Path) -> Content:
    first = Annotation("cat", "", BOX)
    second = Annotation("dog", "", (0.0, 0.0, 64.0, 48.0))
    return Content(
        ("dog", "cat"),
        {
            "train": [
                Sample(paint(tmp_path / "a" / "1.png", 1), "", annotations=(first, second)),
                Sample(paint(tmp_path / "b" / "1.png", 2), ""),
            ],
            "val": [Sample(paint(tmp_path / "a" / "2.png", 3), "", annotations=(first,))],
        },
    )


def write(content: Content, layout: str, out: Path, lossy: bool = False) -> Path:
    convert(content, layout, out, copy=False, lossy=lossy)
    return out


def test_coco(boxes: Content, tmp_path: Path) -> None:
    out = write(boxes, "coco", tmp_path / "out")
    train = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert [image["file_name"] for image in train["images"]] == ["1.png", "b_1.png"]
    assert (train["images"][0]["width"], train["images"][0]["height"]) == (64, 48)
    assert train["annotations"][0]["bbox"] == [4, 6, 36, 24]
    assert (out / "images" / "train" / "b_1.png").samefile(tmp_path / "b" / "1.png")
    tools = pytest.importorskip("pycocotools.coco")
    read = tools.COCO(str(out / "annotations" / "instances_train.json"))
    names = {c["id"]: c["name"] for c in read.loadCats(read.getCatIds())}
    assert [names[a["category_id"]] for a in read.loadAnns(read.getAnnIds([1]))] == ["cat", "dog"]


def test_voc_counts_pixels_from_one(boxes: Content, tmp_path: Path) -> None:
    out = write(boxes, "voc", tmp_path / "out")
    assert (out / "ImageSets" / "Main" / "train.txt").read_text() == "1\nb_1\n"
    box = ElementTree.parse(out / "Annotations" / "1.xml").find("object/bndbox")
    assert box is not None
    assert [float(number.text or "") for number in box] == [5, 7, 40, 30]
    assert (out / "classes.txt").read_text() == "dog\ncat\n"


def test_yolo_has_centers_as_shares(boxes: Content, tmp_path: Path) -> None:
    out = write(boxes, "yolo", tmp_path / "out")
    described = yaml.safe_load((out / "data.yaml").read_text())
    assert (described["names"], described["nc"]) == ({0: "dog", 1: "cat"}, 2)
    assert (described["train"], described["val"]) == ("images/train", "images/val")
    lines = (out / "labels" / "train" / "1.txt").read_text().splitlines()
    assert [float(value) for value in lines[0].split()] == [1, 22 / 64, 18 / 48, 36 / 64, 24 / 48]
    assert (out / "labels" / "train" / "b_1.txt").read_text() == ""


def test_yolo_has_polygons_and_keypoints(tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png", 1)
    polygon = Annotation("cat", "", BOX, polygons=((4.0, 6.0, 40.0, 6.0, 40.0, 30.0),))
    points = Annotation("cat", "", BOX, keypoints=(Keypoint(8, 12), Keypoint(16, 24, 1)))
    for annotation, expected in (
        (polygon, [0, 4 / 64, 6 / 48, 40 / 64, 6 / 48, 40 / 64, 30 / 48]),
        (points, [0, 22 / 64, 18 / 48, 36 / 64, 0.5, 8 / 64, 12 / 48, 2, 0.25, 0.5, 1]),
    ):
        content = Content((), {"train": [Sample(path, "", annotations=(annotation,))]})
        out = write(content, "yolo", tmp_path / str(len(expected)))
        line = (out / "labels" / "train" / "a.txt").read_text()
        assert [float(value) for value in line.split()] == pytest.approx(expected, rel=1e-15)
    assert yaml.safe_load((out / "data.yaml").read_text())["kpt_shape"] == [2, 3]


def test_tables_folders_and_tar_files_hold_labels(tmp_path: Path) -> None:
    samples = [
        Sample(paint(tmp_path / "in" / f"{k}.png", k), "", labels=(label,))
        for k, label in enumerate(["a, b", "c"])
    ]
    content = Content((), {"train": samples})
    with (write(content, "csv", tmp_path / "csv") / "data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"path": "images/0.png", "split": "train", "label": "a, b"}
    assert (write(content, "folder", tmp_path / "f") / "train" / "a, b" / "0.png").is_file()
    with tarfile.open(write(content, "webdataset", tmp_path / "w") / "train-000.tar") as tar:
        member = tar.extractfile("00000000.cls")
        assert member is not None
        assert member.read() == b"a, b"
        assert tar.getnames()[0] == "00000000.png"


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ("csv", "3 x annotated objects, 3 x images without a label or a caption"),
        ("voc", "1 x polygons, 1 x areas"),
        ("yolo", "1 x areas"),
    ],
)
def test_what_a_layout_cannot_hold_is_named_before_anything_is_written(
    boxes: Content, tmp_path: Path, layout: str, named: str
) -> None:
    if layout != "csv":
        path = tmp_path / "a" / "1.png"
        shape = Annotation("cat", "", BOX, polygons=((1.0, 1.0, 5.0, 1.0, 5.0, 5.0),), area=8.0)
        boxes = Content((), {"train": [Sample(path, "", annotations=(shape,))]})
    with pytest.raises(DlkitError, match=f"{layout} cannot hold {named}; add --lossy"):
        write(boxes, layout, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write(boxes, layout, tmp_path / "out", lossy=True)
    assert (tmp_path / "out").is_dir()


def test_a_folder_with_files_is_kept(boxes: Content, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="exists already"):
        write(boxes, "coco", tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["1.png", "2.png"]


def test_splits_are_shares_keep_groups_and_are_the_same_for_a_seed(tmp_path: Path) -> None:
    samples = [
        Sample(Path(f"{patient}_{view}.png"), "", labels=("ill" if patient % 4 else "well",))
        for patient in range(40)
        for view in range(3)
    ]
    content = Content((), {"all": samples})
    made = split_content(content, 0.2, 0.1, 0, stratify=True, group_by=r"(\d+)_")
    counts = {name: len(found) for name, found in made.splits.items()}
    assert counts == {"train": 84, "val": 24, "test": 12}
    patients = [
        {str(sample.path).split("_")[0] for sample in found} for found in made.splits.values()
    ]
    assert sum(map(len, patients)) == 40
    well = [sum(s.labels == ("well",) for s in found) for found in made.splits.values()]
    assert well == [21, 6, 3]
    assert split_content(content, 0.2, 0.1, 0, True, r"(\d+)_") == made
    assert split_content(content, 0.2, 0.1, 1, True, r"(\d+)_") != made


def test_flags_of_voc_return_and_others_name_them(tmp_path: Path) -> None:
    flagged = Annotation("cat", "", BOX, difficult=True, truncated=True)
    sample = Sample(paint(tmp_path / "a.png", 1), "", annotations=(flagged,))
    content = Content(("cat",), {"train": [sample]})
    out = write(content, "voc", tmp_path / "voc")
    (read,) = find_source(out).read("train", Ledger("train"))
    assert (read.annotations[0].difficult, read.annotations[0].truncated) == (True, True)
    for layout in ("coco", "yolo"):
        with pytest.raises(DlkitError, match="1 x the flag difficult, 1 x the flag truncated"):
            write(content, layout, tmp_path / layout)


def test_images_that_a_table_would_drop_are_named(tmp_path: Path) -> None:
    first = Sample(paint(tmp_path / "1.png", 1), "", captions=("A cat.",))
    second = Sample(paint(tmp_path / "2.png", 2), "", labels=("cat",))
    content = Content((), {"train": [first, second]})
    named = "1 x images without a caption beside captions, 1 x labels beside captions"
    with pytest.raises(DlkitError, match=named):
        write(content, "csv", tmp_path / "csv")
    # A tar file has parts of either kind.
    with tarfile.open(write(content, "webdataset", tmp_path / "w") / "train-000.tar") as tar:
        parts = ["00000000.png", "00000000.txt", "00000001.png", "00000001.cls"]
        assert tar.getnames() == parts


@pytest.mark.parametrize("label", ["train", "Test", "__MACOSX", ".cat", "a/b", "é" * 200])
def test_labels_that_a_folder_would_not_give_back_are_named(tmp_path: Path, label: str) -> None:
    sample = Sample(paint(tmp_path / "1.png", 1), "", labels=(label,))
    with pytest.raises(DlkitError, match="1 x labels that cannot be names of folders"):
        write(Content((), {"train": [sample]}), "folder", tmp_path / "out")


@pytest.mark.parametrize("label", ["#1", "a 1 2 3", "a:1,2,3::", "a\nb"])
def test_labels_that_a_list_of_classes_would_change_are_named(tmp_path: Path, label: str) -> None:
    sample = Sample(paint(tmp_path / "1.png", 1), "", annotations=(Annotation(label, "", BOX),))
    with pytest.raises(DlkitError, match="1 x labels that a line of classes.txt cannot be"):
        write(Content((label,), {"train": [sample]}), "voc", tmp_path / "out")


def test_colors_of_masks_stay_with_their_classes(tmp_path: Path) -> None:
    mask = paint(tmp_path / "masks" / "1.png", 2)
    sample = Sample(paint(tmp_path / "1.png", 1), "", mask=mask)
    colors = ((0, 0, 0), (255, 0, 128))
    content = Content(("sky", "a car"), {"train": [sample]}, colors)
    for layout in ("folder", "voc"):
        assert read_classes(write(content, layout, tmp_path / layout)) == Classes(
            ("sky", "a car"), colors
        )
