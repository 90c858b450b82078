"""The three layouts give the same boxes; bad annotations are named."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import read_header
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.data import DetectionDataset
from dlkit.detect.layouts import AnnotatedSplit, read_split, read_training
from tests.conftest import LABELS, SIDE, Box, run, scene, voc_xml, write_voc
from tests.detect.helpers import write

SPLITS = {"train": [0, 1, 2], "val": [3, 4]}
WHOLE = Draw(share=0)  # of data without a val split


Objects = list[tuple[str, Box]]


def objects_of(seeds: list[int]) -> dict[int, Objects]:
    return {seed: scene(seed)[1] for seed in seeds}


def coco_content(scenes: dict[int, Objects]) -> dict[str, Any]:
    """COCO's json of the objects of some images; its category ids have gaps, as COCO's own."""
    ids = {label: 10 * number + 3 for number, label in enumerate(LABELS)}
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": ids[label], "name": label} for label in LABELS],
    }
    for seed, objects in scenes.items():
        content["images"].append(
            {"id": seed + 100, "file_name": f"{seed:03}.jpg", "width": SIDE, "height": SIDE}
        )
        for label, (x1, y1, x2, y2) in objects:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": seed + 100,
                    "category_id": ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    return content


def yolo_text(objects: Objects, labels: list[str] = LABELS) -> str:
    return "".join(
        f"{labels.index(label)} {(x1 + x2) / 2 / SIDE} {(y1 + y2) / 2 / SIDE}"
        f" {(x2 - x1) / SIDE} {(y2 - y1) / SIDE}\n"
        for label, (x1, y1, x2, y2) in objects
    )


def save_image(seed: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(seed)[0].save(path, quality=95)


def voc(root: Path) -> Path:
    return write_voc(root, SPLITS)


def coco(root: Path) -> Path:
    """As COCO has it: annotations/instances_val2017.json, val2017/."""
    for split, seeds in SPLITS.items():
        write(
            root / f"annotations/instances_{split}2017.json",
            json.dumps(coco_content(objects_of(seeds))),
        )
        write(root / f"annotations/captions_{split}2017.json", "{}")
        for seed in seeds:
            save_image(seed, root / f"{split}2017" / f"{seed:03}.jpg")
    return root


def coco_beside_images(root: Path) -> Path:
    """As Roboflow has it: val/_annotations.coco.json beside the images."""
    for split, seeds in SPLITS.items():
        write(root / split / "_annotations.coco.json", json.dumps(coco_content(objects_of(seeds))))
        for seed in seeds:
            save_image(seed, root / split / f"{seed:03}.jpg")
    return root


def yolo_pairs(root: Path, images: str, labels: str, order: list[str] = LABELS) -> Path:
    for split, seeds in SPLITS.items():
        for seed in seeds:
            save_image(seed, root / images.format(split) / f"{seed:03}.jpg")
            text = yolo_text(scene(seed)[1], order)
            write(root / labels.format(split) / f"{seed:03}.txt", text)
    return root


def yolo_with_yaml(root: Path) -> Path:
    write(root / "data.yaml", "path: .\ntrain: images/train\nnames:\n  0: disc\n  1: square\n")
    return yolo_pairs(root, "images/{}", "labels/{}")


def yolo_with_a_list(root: Path) -> Path:
    write(root / "data.yaml", "nc: 2\nnames: [disc, square]\n")
    return yolo_pairs(root, "{}/images", "{}/labels")


def yolo_with_unsorted_names(root: Path) -> Path:
    write(root / "data.yml", "names: {1: square, 0: disc}\n")
    return yolo_pairs(root, "images/{}", "labels/{}")


def yolo_with_classes_txt(root: Path) -> Path:
    """Label Studio adds a notes.json, which is not COCO's."""
    write(root / "notes.json", '{"categories": []}')
    write(root / "classes.txt", "disc\nsquare\n\n")
    return yolo_pairs(root, "images/{}", "labels/{}")


LAYOUTS = [
    voc,
    coco,
    coco_beside_images,
    yolo_with_yaml,
    yolo_with_a_list,
    yolo_with_unsorted_names,
    yolo_with_classes_txt,
]


def boxes_of(split: AnnotatedSplit) -> dict[str, dict[str, list[float]]]:
    """For each image, by label, its box: each scene has one of each."""
    return {
        sample.path.stem: {
            split.labels[label]: [round(float(value), 3) for value in box]
            for box, label in zip(sample.boxes, sample.labels, strict=True)
        }
        for sample in split.samples
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_boxes(
    layout: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = layout(tmp_path / "data")
    for split, seeds in SPLITS.items():
        read = read_split(root, split)
        expected = {
            f"{seed:03}": {label: [float(v) for v in box] for label, box in scene(seed)[1]}
            for seed in seeds
        }
        assert read.labels == LABELS
        assert boxes_of(read) == expected
        assert {(s.width, s.height) for s in read.samples} == {(SIDE, SIDE)}
        assert not any(s.crowd.any() or s.difficult.any() for s in read.samples)
    assert capsys.readouterr().err.splitlines() == [
        "train: 3 images, 6 boxes of 2 labels",
        "val: 2 images, 4 boxes of 2 labels",
    ]


def test_voc_counts_pixels_from_one_and_includes_both_ends(tmp_path: Path) -> None:
    root = voc(tmp_path)
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>96</xmax><ymax>2</ymax>"
    things = f"""<annotation><filename>x.jpg</filename><object><name> disc </name>
      <difficult>1</difficult><bndbox>{box}</bndbox>
      <attributes><attribute><name>rotated</name><value>no</value></attribute></attributes>
      <part><name>rim</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax>
      </bndbox></part></object></annotation>"""
    write(root / "Annotations/003.xml", things)
    read = read_split(root, "val", LABELS)
    assert boxes_of(read)["003"] == {"disc": [0.0, 0.0, 96.0, 2.0]}
    assert read.samples[0].difficult.tolist() == [True]


def test_coco_crowds_are_marked(tmp_path: Path) -> None:
    content = coco_content(objects_of([3]))
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][0]["segmentation"] = {"size": [SIDE, SIDE], "counts": [0]}
    write(tmp_path / "annotations/val.json", json.dumps(content))
    save_image(3, tmp_path / "images/003.jpg")
    (sample,) = read_split(tmp_path, "val").samples
    assert sample.crowd.tolist() == [True, False]


def test_labels_given_fix_the_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = read_split(voc(tmp_path), "val", ["square", "cat"])
    assert read.labels == ["square", "cat"]
    assert [set(boxes) for boxes in boxes_of(read).values()] == [{"square"}, {"square"}]
    assert "val: 2 boxes of classes that are not among the chosen ones" in capsys.readouterr().err


def test_boxes_are_those_of_the_image_as_shown(tmp_path: Path) -> None:
    """YOLO's shares are of the turned image; a box beyond the stored height is inside."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images/train").mkdir(parents=True)
    Image.new("RGB", (100, 50)).save(tmp_path / "images/train/a.jpg", exif=exif)
    write(tmp_path / "labels/train/a.txt", "0 0.5 0.9 0.2 0.2\n")
    (sample,) = read_split(tmp_path, "train", draw=WHOLE).samples
    assert (sample.width, sample.height) == (50, 100)
    assert sample.boxes.tolist() == [[20, 80, 30, 100]]


def test_a_polygon_is_no_box(tmp_path: Path) -> None:
    """YOLO's lines for segmentation: the box around them, or nothing, but never a wrong box."""
    yolo_with_yaml(tmp_path)
    write(tmp_path / "labels/train/000.txt", "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.5\n")
    boxes = boxes_of(read_split(tmp_path, "train"))["000"]
    assert boxes in ({}, {"disc": [24.0, 24.0, 48.0, 72.0]})


OUTSIDE: Box = (200, 10, 220, 30)


FLAT: Box = (10, 10, 10, 30)


CUT: Box = (80, -20, 120, 40)


def bad_voc(root: Path) -> list[str]:
    """Scene 0 with bad objects besides; returns where they stand, as the other `bad_` do."""
    voc(root)
    bad: Objects = [("disc", OUTSIDE), ("disc", FLAT), ("", (1, 1, 9, 9))]
    text = voc_xml([*scene(0)[1], *bad]).replace("</annotation>", "<object></object></annotation>")
    write(root / "Annotations/000.xml", text)
    write(root / "classes.txt", "\n".join(LABELS))
    write(root / "ImageSets/Main/train.txt", "000\nmissing\nunreadable\n")
    write(root / "JPEGImages/unreadable.jpg", "text")
    for name in ("missing", "unreadable"):
        write(root / f"Annotations/{name}.xml", voc_xml([]))
    return [f"000.xml:{line}" for line in (10, 14, 18, 22)]


def bad_coco(root: Path) -> list[str]:
    coco_beside_images(root)
    content = coco_content(objects_of([0]))
    good: dict[str, Any] = {"image_id": 100, "category_id": 3, "bbox": [1, 1, 9, 9]}
    bad: list[dict[str, Any]] = [
        {"bbox": [200, 10, 20, 20]},
        {"bbox": [10, 10, 0, 20]},
        {"category_id": 77},
        {"image_id": 5},
        {"bbox": [10, 10, 20]},
        {"bbox": None},
    ]
    content["annotations"] += [{"id": 1000 + i, **good, **a} for i, a in enumerate(bad)]
    for number, name in enumerate(("missing", "unreadable")):
        content["images"].append({"id": number, "file_name": f"{name}.jpg"})
    write(root / "train/_annotations.coco.json", json.dumps(content))
    write(root / "train/unreadable.jpg", "text")
    return [f"annotation {number}" for number in range(1000, 1006)]


def bad_yolo(root: Path) -> list[str]:
    yolo_with_yaml(root)
    for seed in SPLITS["train"][1:]:
        (root / f"images/train/{seed:03}.jpg").unlink()
        (root / f"labels/train/{seed:03}.txt").unlink()
    bad = "0 2.0 0.5 0.1 0.1\n0 0.5 0.5 0 0.1\n7 0.5 0.5 0.1 0.1\n0 garbage\n0 nan 0 1 1\n\n"
    write(root / "labels/train/000.txt", yolo_text(scene(0)[1]) + bad)
    write(root / "labels/train/missing.txt", "0 0.5 0.5 0.1 0.1\n")
    write(root / "images/train/unreadable.jpg", "text")
    return [f"000.txt:{line}" for line in (3, 4, 5, 6, 7)]


@pytest.mark.parametrize("layout", [bad_voc, bad_coco, bad_yolo])
def test_bad_annotations_are_named_and_skipped(
    layout: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [*layout(tmp_path), "missing.", "unreadable.jpg"]
    with pytest.raises(
        DlkitError, match=r"(2 of 3 images|\d of \d boxes) of 'train' cannot be used"
    ):
        read_split(tmp_path, "train")
    capsys.readouterr()
    read = read_split(tmp_path, "train", allowed=1)
    assert boxes_of(read) == {"000": {n: [float(v) for v in box] for n, box in scene(0)[1]}}
    rows = [place for _, _, _, place in read.ledger.rows()]
    assert len(rows) == len(places)
    for place in places:
        assert sum(place in row for row in rows) == 1, place
    assert (read.ledger.used["boxes"], read.ledger.used["images"]) == (2, 1)
    assert read.ledger.seen("boxes") + read.ledger.seen("images") == len(places) + 3
    err = capsys.readouterr().err
    reasons = {reason for _, _, reason, _ in read.ledger.rows()}
    assert {"box outside its image", "unreadable image"} < reasons
    assert f"train: skipped {len(places) - 2} of {len(places)} boxes (" in err
    assert "train: skipped 2 of 3 images (67 %): " in err


def test_nothing_left_to_learn_from_is_an_error_with_the_most_frequent_reason(
    tmp_path: Path,
) -> None:
    yolo_with_yaml(tmp_path)
    for seed in SPLITS["train"]:
        write(tmp_path / f"labels/train/{seed:03}.txt", "0 0.5 0.5 0 0.1\n" * 50)
    with pytest.raises(
        DlkitError,
        match=r"none of the 150 boxes of 'train' can be used, most often: box without area"
        r" \(.*000.txt:1, ",
    ):
        read_training(DetectTrainConfig(data=tmp_path, allow_skipped=1))


@pytest.mark.parametrize(
    ("make", "path", "text"),
    [
        (voc, "Annotations/003.xml", voc_xml([("disc", CUT)])),
        (
            coco,
            "annotations/instances_val2017.json",
            json.dumps(coco_content({3: [("disc", CUT)]})),
        ),
        (yolo_with_yaml, "labels/val/003.txt", yolo_text([("disc", CUT)])),
    ],
)
def test_boxes_are_cut_at_the_border(
    make: Callable[[Path], Path], path: str, text: str, tmp_path: Path
) -> None:
    write(make(tmp_path) / path, text)
    assert boxes_of(read_split(tmp_path, "val"))["003"] == {"disc": [80.0, 0.0, 96.0, 40.0]}


def test_a_truncated_image_is_named_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its header is fine, so it is found when its pixels are needed."""
    voc(tmp_path)
    image = tmp_path / "JPEGImages/001.jpg"
    image.write_bytes(image.read_bytes()[:1500])
    read = read_split(tmp_path, "train")
    samples = read.samples
    config = DetectTrainConfig(data=tmp_path, mosaic=0, color_jitter=0)
    pictures = DetectionDataset(samples, config, ledger=read.ledger)
    _, said = capsys.readouterr().err.splitlines()
    assert "001.jpg: damaged image" in said
    assert (pictures.ledger.used["images"], pictures.ledger.skipped("images")) == (2, 1)
    damaged = [sample.path.name for sample in samples].index("001.jpg")
    canvas, boxes, labels = pictures[damaged]
    assert len(boxes) == len(labels) == 0
    assert canvas.float().std() < 1


def broken(make: Callable[[Path], Path], path: str, content: bytes) -> Callable[[Path], None]:
    def layout(root: Path) -> None:
        make(root)
        (root / path).write_bytes(content)

    return layout


UNUSABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no layout": (lambda root: write(root / "notes.txt", "x"), "known layout"),
    "nothing there": (lambda root: None, "no such folder"),
    "a file": (lambda root: write(root, "x"), "known layout"),
    "VOC, bad XML": (
        broken(voc, "Annotations/001.xml", b"<annotation>\n<object>\n</annotation>"),
        r"001\.xml:3",
    ),
    "VOC, no XML": (broken(voc, "Annotations/001.xml", b""), r"001\.xml"),
    "VOC, unknown encoding": (
        broken(voc, "Annotations/001.xml", b"<?xml version='1.0' encoding='x-y'?><a/>"),
        r"001\.xml",
    ),
    "VOC, encoding of many bytes": (
        broken(voc, "Annotations/001.xml", b"<?xml version='1.0' encoding='gbk'?><a/>"),
        r"001\.xml",
    ),
    "VOC, list not UTF-8": (
        broken(voc, "ImageSets/Main/train.txt", b"\xff\xfe\x80"),
        r"train\.txt",
    ),
    "VOC, empty list": (broken(voc, "ImageSets/Main/train.txt", b""), "no images of 'train'"),
    "COCO, bad json": (
        broken(coco, "annotations/instances_train2017.json", b'{"images": ['),
        r"instances_train2017\.json",
    ),
    "COCO, other json": (
        broken(coco, "annotations/instances_train2017.json", b"[1, 2]"),
        "not a COCO file",
    ),
    "COCO, lists of numbers": (
        broken(
            coco,
            "annotations/instances_train2017.json",
            b'{"images": [1], "annotations": [[]], "categories": ["a"]}',
        ),
        "not a COCO file",
    ),
    "COCO, not UTF-8": (
        broken(coco, "annotations/instances_train2017.json", b'{"images": "\xff\xfe"}'),
        r"instances_train2017\.json",
    ),
    "YOLO, bad yaml": (broken(yolo_with_yaml, "data.yaml", b"names: [a, "), r"data\.yaml"),
    "YOLO, no names": (broken(yolo_with_yaml, "data.yaml", b"nc: 2\n"), r"data\.yaml"),
    "YOLO, names is a word": (broken(yolo_with_yaml, "data.yaml", b"names: cat\n"), r"data\.yaml"),
    "YOLO, names is empty": (broken(yolo_with_yaml, "data.yaml", b"names:\n"), r"data\.yaml"),
    "YOLO, labels not UTF-8": (
        broken(yolo_with_yaml, "labels/train/001.txt", b"0 \xff\xfe\x80"),
        r"001\.txt",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_data_that_cannot_be_used_is_one_line(name: str, tmp_path: Path) -> None:
    make, said = UNUSABLE[name]
    make(tmp_path / "data")
    with pytest.raises(DlkitError, match=rf"^[^\n]*{said}[^\n]*$"):
        read_split(tmp_path / "data", "train")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_wrong_split_is_one_line(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match=r"^[^\n]*no split 'holiday'[^\n]*$"):
        read_split(layout(tmp_path), "holiday")


def test_the_share_that_may_be_skipped_is_an_option_of_train_and_evaluate(tmp_path: Path) -> None:
    root = yolo_with_yaml(tmp_path / "data")
    write(root / "labels/train/000.txt", yolo_text(scene(0)[1]) + "7 0.5 0.5 0.1 0.1\n")
    command = ["detect", "train", root, "--out", tmp_path / "run", "--size", "nano"]
    command += ["--image-size", "64", "--epochs", "1", "--workers", "0", "--device", "cpu"]
    done = run(*command)
    assert done.code == 2
    assert "1 of 7 boxes of 'train' cannot be used (14 %), most often: unknown class 7" in done.err
    allowed = re.search(r"--allow-skipped [0-9.]+", done.err)
    assert allowed is not None
    strict = run(*command, *allowed[0].split(), "--strict")
    assert strict.code == 2
    evaluate = ["detect", "evaluate", root, "--split", "train", "--device", "cpu"]
    done = run(*evaluate)
    assert (done.code, "1 of 1 boxes of 'train' cannot be used" in done.err) == (2, True)
    done = run(*evaluate, "--allow-skipped", "1")
    assert (done.code, "no box of 'train' has a label of the model" in done.err) == (2, True)


def test_all_crowds_leave_nothing_to_learn_from(tmp_path: Path) -> None:
    content = coco_content(objects_of([0]))
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    coco(tmp_path)
    write(tmp_path / "annotations/instances_train2017.json", json.dumps(content))
    with pytest.raises(DlkitError, match="all 2 of 'train' are crowds"):
        read_training(DetectTrainConfig(data=tmp_path))


def test_classes_txt_of_voc_chooses_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(voc(tmp_path) / "classes.txt", "square\n")
    read, _ = read_training(DetectTrainConfig(data=tmp_path))
    assert (read.labels, read.ledger.used["boxes"]) == (["square"], 3)
    assert "train: 3 boxes of classes that are not among the chosen ones" in capsys.readouterr().err


def test_a_training_keeps_what_is_skipped_and_the_last_epoch_without_boxes_in_val(
    tmp_path: Path,
) -> None:
    root = yolo_with_yaml(tmp_path / "data")
    for seed in SPLITS["val"]:
        write(root / f"labels/val/{seed:03}.txt", "")
    write(root / "labels/train/000.txt", yolo_text(scene(0)[1]) + "7 0.5 0.5 0.1 0.1\n")
    done = run(
        "detect", "train", root, "--out", tmp_path / "run", "--size", "nano", "--image-size", "64",
        "--epochs", "2", "--workers", "0", "--device", "cpu", "--allow-skipped", "0.2",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "val: no box of a label of train" in done.err
    assert "(best)" not in done.err
    table = (tmp_path / "run/skipped.csv").read_text().splitlines()
    place = f"{root / 'labels/train/000.txt'}:3"
    assert table == ["split,kind,reason,place", f"train,boxes,unknown class 7,{place}"]
    assert read_header(tmp_path / "run/best.safetensors").metrics["epoch"] == 2
