"""Every layout gives the same masks; bad ones are named and skipped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.layouts import read_split, read_training
from dlkit.segment.masks import IGNORED
from tests.conftest import run
from tests.segment.helpers import (
    COLORS,
    HEIGHT,
    LAYOUTS,
    NAMES,
    SPLITS,
    WIDTH,
    camvid,
    coco,
    folders,
    picture,
    scene,
    write,
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_masks(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = LAYOUTS[layout](tmp_path / "data")
    for split, seeds in SPLITS.items():
        read = read_split(root, split)
        assert read.labels == NAMES
        assert [sample.path.name for sample in read.samples] == [f"{seed}.png" for seed in seeds]
        for sample, seed in zip(read.samples, seeds, strict=True):
            mask = scene(seed)[1]
            assert np.array_equal(sample.truth.mask(), mask)
            assert sample.pixels.tolist() == np.bincount(mask.reshape(-1), minlength=3).tolist()
            assert (sample.width, sample.height) == (WIDTH, HEIGHT)
    objects = {"train": ", 8 objects", "val": ", 4 objects"} if layout == "coco" else {}
    assert capsys.readouterr().err.splitlines() == [
        f"{split}: {len(seeds)} images with 3 of 3 classes{objects.get(split, '')}"
        for split, seeds in SPLITS.items()
    ]


@pytest.mark.parametrize("layout", ["index masks", "color masks", "voc", "coco"])
def test_objects_have_a_class_and_a_mask(layout: str, tmp_path: Path) -> None:
    read = read_split(LAYOUTS[layout](tmp_path / "data"), "val", instances=True)
    assert read.labels == ["disc", "square"]
    for sample, seed in zip(read.samples, SPLITS["val"], strict=True):
        found = sample.truth.objects()
        assert sorted(o.label for o in found) == [0, 1]
        for thing in found:
            expected = scene(seed)[1] == thing.label + 1
            assert np.array_equal(thing.mask, expected)
            assert thing.area == expected.sum()
            assert not thing.crowd


def test_labels_given_fix_the_order_and_the_rest_is_ignored(tmp_path: Path) -> None:
    read = read_split(camvid(tmp_path), "val", ["square", "cat", "background"])
    mask = scene(4)[1]
    expected = np.array([2, IGNORED, 0])[mask]
    assert np.array_equal(read.samples[0].truth.mask(), expected)


def test_pixels_of_no_class(tmp_path: Path) -> None:
    """255 anywhere, void by name, and CamVid's index after the last class."""
    camvid(tmp_path)
    write(tmp_path / "classes.txt", "background\nvoid\nsquare\n")
    values = scene(4)[1]
    values[0, :2] = 255, 3
    write(tmp_path / "valannot/4.png", picture(values))
    read = read_split(tmp_path, "val")
    assert read.labels == ["background", "square"]
    mask = read.samples[0].truth.mask()
    assert mask[0, :2].tolist() == [IGNORED, IGNORED]
    expected = np.array([0, IGNORED, 1], np.uint8)[scene(4)[1]]
    assert np.array_equal(mask[1:], expected[1:])


def bad_masks(root: Path) -> list[str]:
    """A good image and bad ones; returns what is said of each."""
    folders(root)
    mask = scene(0)[1]
    masks, images = root / "masks/train", root / "images/train"
    write(masks / "1.png", picture(mask[:-1]))
    write(masks / "2.png", picture(np.where(mask == 1, 77, mask).astype(np.uint8)))
    write(masks / "3.png", picture(np.array(COLORS, np.uint8)[mask]))
    for name in ("alone", "broken"):
        write(images / f"{name}.png", picture(scene(0)[0]))
    write(masks / "broken.png", "text")
    write(masks / "nobody.png", picture(mask))
    write(images / "torn.png", "text")
    write(masks / "torn.png", picture(mask))
    return [
        f"mask of another size: {masks / '1.png'} (64 x 47, its image 64 x 48)",
        f"mask with an unknown value: {masks / '2.png'} (value 77)",
        f"color mask without a color table in classes.txt: {masks / '3.png'}",
        f"image without a mask: {images / 'alone.png'}",
        f"unreadable mask: {masks / 'broken.png'}",
        f"mask without an image: {masks / 'nobody.png'}",
        f"unreadable image: {images / 'torn.png'}",
    ]


def test_bad_masks_are_named_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = bad_masks(tmp_path)
    read = read_split(tmp_path, "train", allowed=1)
    assert [sample.path.name for sample in read.samples] == ["0.png"]
    found = [f"{reason}: {place}" for _, _, reason, place in read.ledger.rows()]
    assert sorted(found) == sorted(expected)
    assert "train: skipped 7 of 8 images (88 %): " in capsys.readouterr().err
    with pytest.raises(DlkitError, match=r"7 of 8 images of 'train' cannot be used \(88 %\)"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    "form",
    [
        [[1, 1, 5]],
        [[float("nan"), 1, 5, 1, 5, 5]],
        ["corners"],
        {"size": [2, 2], "counts": [4]},
        {"size": [HEIGHT, WIDTH], "counts": [7]},
        {"counts": "?"},
    ],
)
def test_bad_segmentations_of_coco_are_named(
    form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = coco(tmp_path) / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = form
    file.write_text(json.dumps(content))
    read = read_split(tmp_path, "train", allowed=1)
    assert [s.path.name for s in read.samples] == ["1.png", "2.png", "3.png"]
    assert read.ledger.places == {"images": {"bad segmentation": [f"{file}: annotation 0"]}}
    assert "1 bad segmentation" in capsys.readouterr().err


def test_masks_of_more_than_eight_bits(tmp_path: Path) -> None:
    root = folders(tmp_path)
    mask = scene(0)[1].astype(np.int32)
    write(root / "masks/train/0.png", Image.fromarray(mask.astype(np.uint16)))
    assert np.array_equal(read_split(root, "train").samples[0].truth.mask(), mask)
    (root / "masks/train/0.png").unlink()
    mask[0, 0] = -1
    write(root / "masks/train/0.tif", Image.fromarray(mask))
    names = [sample.path.name for sample in read_split(root, "train", allowed=1).samples]
    assert names == ["1.png", "2.png", "3.png"]


def color_of_no_class(root: Path) -> None:
    folders(root, "color")
    values = np.array(COLORS, np.uint8)[scene(0)[1]]
    values[0, 0] = 1, 2, 3
    for seed in SPLITS["train"]:
        write(root / f"masks/train/{seed}.png", picture(values))


def no_masks(root: Path) -> None:
    folders(root)
    for path in (root / "masks/train").iterdir():
        path.unlink()


def colors_without_table(root: Path) -> None:
    folders(root, "color")
    write(root / "classes.txt", "\n".join(NAMES))


def one_class(root: Path) -> None:
    folders(root)
    for path in (root / "masks/train").iterdir():
        write(path, picture(np.ones((HEIGHT, WIDTH), np.uint8)))


def damaged_coco(root: Path) -> None:
    write(root / "annotations/instances_train.json", '{"images": []}')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (color_of_no_class, "mask with an unknown value"),
        (no_masks, "none of the 4 images of 'train' can be used, most often: image without a mask"),
        (colors_without_table, "color mask without a color table in classes.txt"),
        (one_class, "the training masks contain a single class (disc)"),
        (damaged_coco, "not a COCO file: no list `annotations`"),
        (lambda root: write(root / "a.txt", ""), "no masks in a known layout"),
        (lambda root: write(root / "images/train/a.txt", ""), "no masks in a known layout"),
        (lambda root: (root / "masks").mkdir(parents=True), "data: no folder images"),
        (lambda root: (folders(root) / "classes.txt").unlink(), "classes.txt: no such file"),
        (lambda root: write(folders(root) / "classes.txt", "a\nb\na\n"), "a is listed twice"),
        (lambda root: write(folders(root) / "classes.txt", "a 1 2 300\n"), "classes.txt:1"),
    ],
)
def test_data_that_cannot_be_used_is_one_line(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "data")
    done = run("segment", "train", tmp_path / "data", "--out", tmp_path / "run", "--device", "cpu")
    assert done.code == 2
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("dlkit: ")
    assert message in last
    assert "Traceback" not in done.err


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_outlines_are_those_of_pycocotools(tmp_path: Path) -> None:
    """Run lengths, plain and compressed, bit for bit; polygons up to their border."""
    api = pytest.importorskip("pycocotools.mask")
    file = coco(tmp_path) / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    noise = np.asfortranarray(rng.random((HEIGHT, WIDTH)) > 0.5, np.uint8)
    packed = api.encode(noise)
    packed["counts"] = packed["counts"].decode()
    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
    polygon = np.stack([30 + 20 * np.cos(angles), 24 + 20 * np.sin(angles)], 1).reshape(-1).tolist()
    content["annotations"][0]["segmentation"] = packed
    content["annotations"][1]["segmentation"] = [polygon]
    file.write_text(json.dumps(content))
    first, second = read_split(tmp_path, "train", instances=True).samples[0].truth.objects()
    assert np.array_equal(first.mask, noise)
    expected = api.decode(api.merge(api.frPyObjects([polygon], HEIGHT, WIDTH))).astype(bool)
    assert (second.mask ^ expected).sum() < 0.06 * expected.sum()


def test_polygons_of_yolo_are_masks(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", "names: [disc, square]\n")
    write(tmp_path / "images/train/a.png", Image.new("RGB", (WIDTH, HEIGHT)))
    write(tmp_path / "labels/train/a.txt", "1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n")
    read = read_split(tmp_path, "train", draw=Draw(0))
    (sample,) = read.samples
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[HEIGHT // 4 : HEIGHT // 2, WIDTH // 4 : WIDTH // 2] = 2
    assert read.labels == NAMES
    assert np.array_equal(sample.truth.mask(), expected)


def test_masks_with_an_ending_and_without_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "classes.txt", "\n".join(NAMES))
    for seed in range(4):
        image, mask, _ = scene(seed)
        write(tmp_path / f"images/{seed}.png", picture(image))
        write(tmp_path / f"masks/{seed}_mask.PNG", picture(mask))
    config = SegmentTrainConfig(data=tmp_path, val_share=0.25)
    training, validation = read_training(config, instances=False)
    assert (len(training.samples), len(validation.samples)) == (3, 1)
    assert "masks with the ending _mask" in capsys.readouterr().err


def test_all_crowds_leave_no_object_to_learn_from(tmp_path: Path) -> None:
    file = coco(tmp_path) / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(DlkitError, match="all 8 of 'train' are crowds"):
        read_training(SegmentTrainConfig(data=tmp_path), instances=True)


def test_the_background_of_the_file_is_the_background(tmp_path: Path) -> None:
    file = coco(tmp_path) / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    content["categories"].insert(0, {"id": 0, "name": "background"})
    file.write_text(json.dumps(content))
    assert read_split(tmp_path, "val").labels == NAMES
    assert read_split(tmp_path, "val", instances=True).labels == NAMES[1:]
