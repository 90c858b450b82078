"""`dlkit segment evaluate`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import one_line, run
from tests.segment.helpers import COLOR_NAMES, FP32, truth_of


def test_evaluate(data: Path, segment: Any) -> None:
    done = run("segment", "evaluate", data, "-m", "colors.safetensors", *FP32, "--save", "out",
               "-f", "json")  # fmt: skip
    assert done.code == 0, done.err
    scores = {(s["metric"], s["label"]): s["value"] for s in json.loads(done.out)}
    wrong, counted = 7 * 9, 3 * 39 * 56
    assert scores["pixel_accuracy", "all"] == pytest.approx(1 - wrong / counted, abs=1e-5)
    assert scores["iou", "blue"] == pytest.approx(2 / 3, abs=1e-5)
    assert scores["iou", "green"] == scores["class_accuracy", "blue"] == 1
    assert scores["pixels", "blue"] == 2 * wrong
    assert 0 < scores["boundary_f1", "all"] < 1
    assert {label for _, label in scores} == {"all", *COLOR_NAMES}
    assert all(record["definition"] for record in json.loads(done.out))
    with Image.open("out/examples.png") as sheet:
        assert sheet.width == 4 * 320
    assert Path("out/confusion.png").exists()


def test_evaluate_says_what_is_missing(data: Path, segment: Any) -> None:
    command = ("segment", "evaluate", "-m", "colors.safetensors", *FP32)
    one_line(run(*command, "in"), "no masks")
    one_line(run(*command, data, "--split", "val"), "val")
    one_line(run(*command, "nowhere"), "nowhere")
    Path("set/classes.txt").write_text("cat\ndog\nbird\n")
    done = run(*command, data)
    assert done.code == 2
    assert "no mask of 'test' contains a class of the model" in done.err.splitlines()[-1]
    for path in Path("set/masks/test").iterdir():
        Image.new("RGB", (56, 40), "red").save(path)
    done = run(*command, data)
    assert (done.code, done.out) == (2, "")
    assert "color mask without a color table in classes.txt" in done.err


def test_evaluate_objects(data: Path, segment: Any) -> None:
    """The red one is right in two images of three; the blue one, of low score, is right as well."""
    Path("set/instances/test").mkdir(parents=True)
    for seed in range(3):
        numbers = np.array(truth_of(seed)) + 1
        shutil.copy(f"set/images/test/{seed}.png", "set/instances/test")
        Image.fromarray(numbers.astype(np.uint8)).save(f"set/instances/test/{seed}.png")
        Image.fromarray(truth_of(seed)).save(f"set/masks/test/{seed}.png")
    done = run("segment", "evaluate", data, "-m", "objects.safetensors", *FP32, "--save", "out",
               "-f", "json")  # fmt: skip
    assert done.code == 0, done.err
    scores = {(s["metric"], s["label"]): s["value"] for s in json.loads(done.out)}
    assert scores["map_50_95_coco101", "red"] == 1
    assert scores["map_50_95_coco101", "green"] == 0
    assert scores["map_50_95_coco101", "all"] == pytest.approx(2 / 3, abs=1e-5)
    with Image.open("out/examples.png") as sheet:
        assert sheet.width == 3 * 320
