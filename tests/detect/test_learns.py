"""Trainings that must reach a score."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.core.store import checkpoint
from dlkit.detect.keypoint_data import read_split
from tests.conftest import run, write_voc

LEARN = (
    "--image-size 64 --batch-size 4 --workers 0 --device cpu --precision fp32 --ema 0 --mosaic 0"
    " --zoom 1.1 --warmup 0.2"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "options", "least"),
    [
        ("yolo", "--size nano --epochs 5 --lr 0.005", 0.6),
        ("fasterrcnn", "--epochs 2 --lr 0.001 --backbone caltech101", 0.5),
        ("ssd", "--epochs 5 --lr 0.001", 0.4),
        ("yolo-v1", "--epochs 12 --lr 0.001 --batch-size 8 --backbone NARROW", 0.1),
        ("retinanet", "--epochs 4 --lr 0.0005", 0.4),
        ("fcos", "--epochs 2 --lr 0.001", 0.6),
    ],
)
def test_an_architecture_learns_squares_and_discs(
    shapes: Path, narrow: Path, tmp_path: Path, arch: str, options: str, least: float
) -> None:
    """Before training none scores more than 0.15 on these four images, and yolo-v1 0.003."""
    done = run(
        "detect", "train", shapes, "--out", tmp_path / "run", "--arch", arch, *LEARN.split(),
        *options.replace("NARROW", str(narrow)).split(),
    )  # fmt: skip
    assert done.code == 0, done.err
    scores = run("detect", "evaluate", shapes, "-m", done.out.strip(), "-f", "jsonl").out
    values = {(r["metric"], r["label"]): r["value"] for r in map(json.loads, scores.splitlines())}
    assert values["ap50_coco101", "all"] > least
    assert (tmp_path / "run" / "examples.png").exists()
    assert (tmp_path / "run" / "curves.png").exists()


@pytest.mark.slow
def test_it_learns_where_the_corners_are(corners: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", corners, "--out", tmp_path / "run", "--arch", "localize",
        "--keypoints", 3, "--image-size", 64, "--epochs", 8, "--lr", 0.003, "--batch-size", 8,
        "--workers", 0, "--device", "cpu", "--ema", 0, "--zoom", 1.1, "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "examples.png").exists()
    best = done.out.strip()

    printed = run("detect", "evaluate", corners, "-m", best, "-f", "json", "--save", tmp_path / "s")
    values = {(r["metric"], r["label"]): r["value"] for r in json.loads(printed.out)}
    assert values["truths", "all"] == 24
    assert (tmp_path / "s" / "pck.png").exists()
    # The best that can be said without a look at the picture is where corners are on average.
    training = read_split(corners, "train").samples
    testing = read_split(corners, "test").samples
    mean = np.nanmean([sample.points for sample in training], axis=0)
    blind = np.mean([np.linalg.norm(sample.points - mean, axis=1) for sample in testing]) / 64
    assert values["distance", "all"] < 0.8 * blind

    image = corners / "images" / "50.png"
    found = run("detect", image, "-m", best, "-f", "json", "--save", tmp_path / "drawn")
    [record] = json.loads(found.out)
    assert [point["keypoint"] for point in record["keypoints"]] == [1, 2, 3]
    assert (record["width"], record["height"]) == (64, 64)
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "50.png"))
    changed = (drawn != np.asarray(Image.open(image))).any(axis=2)
    for point in record["keypoints"]:
        assert changed[min(int(point["y"]), 63), min(int(point["x"]), 63)]
    rows = [line.split("\t") for line in run("detect", image, "-m", best).out.splitlines()]
    assert [row[1] for row in rows] == ["1", "2", "3"]

    for options in ("--threshold 0.5", "--tta", "--count", "--image-size 96", "-f coco"):
        refused = run("detect", image, "-m", best, *options.split())
        assert refused.code == 2
        assert "finds keypoints of images" in refused.err
        assert refused.err.count("dlkit: ") == 1


@pytest.mark.slow
def test_it_learns_where_and_what(single: Path, tmp_path: Path) -> None:
    done = run(
        "detect", "train", single, "--out", tmp_path / "run", "--arch", "localize",
        "--image-size", 64, "--epochs", 4, "--lr", 0.002, "--batch-size", 8, "--workers",
        0, "--device", "cpu", "--ema", 0, "--zoom", 1.1, "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    best = Path(done.out.strip())
    assert checkpoint.read_header(best).metrics["ap50_coco101"] > 0.5
    found = run("detect", single / "JPEGImages" / "24.png", "-m", best)
    assert [line.split("\t")[1] for line in found.out.splitlines()] == ["disc"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": [*range(8)] * 4, "val": [8, 9], "test": [12, 13]}
    return write_voc(tmp_path_factory.mktemp("few") / "shapes", splits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "options", "least"),
    [
        ("fast-rcnn", "--epochs 5 --lr 0.005 --batch-size 4", 0.3),
        ("rcnn", "--epochs 1 --lr 0.003 --batch-size 4", 0.5),
        ("sliding-window", "--epochs 3 --lr 0.005 --batch-size 4", 0.3),
    ],
)
def test_a_classifier_of_regions_learns_squares_and_discs(
    few: Path, narrow: Path, tmp_path: Path, arch: str, options: str, least: float
) -> None:
    command = [
        "detect", "train", few, "--out", tmp_path / "run", "--arch", arch, *options.split(),
        "--backbone", narrow, "--image-size", 96, "--workers", 0, "--device", "cpu", "--ema", 0,
        "--mosaic", 0, "--zoom", 1.1, "--seed", 1, "--warmup", 0.2, "--precision", "fp32",
    ]  # fmt: skip
    done = run(*command)
    assert done.code == 0, done.err
    best = Path(done.out.strip())
    assert checkpoint.read_header(best).metrics["ap50_coco101"] > least
    found = run("detect", few / "JPEGImages" / "012.jpg", "-m", best, "--threshold", 0.01)
    assert found.code == 0
    assert {line.split("\t")[1] for line in found.out.splitlines()} == {"disc", "square"}
    if arch == "sliding-window":
        return
    # The proposals are there when the run goes on.
    kept = (tmp_path / "run" / "proposals.npz").stat().st_mtime_ns
    assert run(*command, "--resume").code == 0
    assert (tmp_path / "run" / "proposals.npz").stat().st_mtime_ns == kept
