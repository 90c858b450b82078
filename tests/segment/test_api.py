"""`segment` in Python: the numbers of the command, on files and on images in memory."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.segment import ImageInstances, Segmentation, evaluate, load, segment
from tests.conftest import Result, records, run
from tests.segment.helpers import FP32, truth_of

COLORS, OBJECTS = "colors.safetensors", "objects.safetensors"


@pytest.fixture
def command(segment: Any) -> Any:
    """`dlkit segment ARGS`, with models and images in the current folder."""
    return segment


def python(image: Any, model: str = COLORS, **options: Any) -> Any:
    return segment(image, load(model, precision="fp32"), **options)


def test_a_file_has_the_record_of_the_command(command: Any) -> None:
    for model, objects, kind in (
        (COLORS, False, Segmentation),
        (OBJECTS, True, ImageInstances),
    ):
        found = python("in/0.png", model)
        assert isinstance(found, kind)
        assert (
            asdict(found) == records(command("in/0.png", "-f", "jsonl", finds_objects=objects))[0]
        )


def test_masks_are_the_classes_of_the_pixels(command: Any) -> None:
    """The model knows three colors exactly, so that the truth is known."""
    truth = truth_of(1)
    found = python("in/1.png")
    labels = load(COLORS).labels
    for region in found.segments:
        assert np.array_equal(region.mask, truth == labels.index(region.label))
    assert "counts" not in repr(found)


def test_an_image_in_memory_has_the_result_of_its_file(command: Any) -> None:
    pixels = np.array(Image.open("in/2.png"))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for model in (COLORS, OBJECTS):
        expected = python("in/2.png", model).rows()
        for image in (Image.open("in/2.png"), pixels, pixels / 255, tensor, tensor / 255):
            rows = python(image, model).rows()
            assert [{**row, "path": ""} for row in rows] == [{**r, "path": ""} for r in expected]
    assert len(python(torch.stack([tensor] * 3))) == 3


def test_options_have_the_meaning_of_the_command_line(command: Any) -> None:
    def printed(done: Result) -> Any:
        return records(done)[0]

    label = load(COLORS).labels[1]
    for options, arguments in (
        ({"classes": label}, ["--classes", label]),
        ({"classes": [label], "tta": True}, ["--classes", label, "--tta"]),
        ({"tile": 32}, ["--tile", 32]),
        ({"image_size": 64}, ["--image-size", 64]),
    ):
        expected = printed(command("in/0.png", "-f", "jsonl", *arguments))
        assert asdict(python("in/0.png", **options)) == expected
    expected = printed(command("in/0.png", "-f", "jsonl", "--threshold", 0.9, finds_objects=True))
    assert asdict(python("in/0.png", OBJECTS, threshold=0.9)) == expected
    with pytest.raises(DlkitError, match="unknown class purple; choose from"):
        python("in/0.png", classes="purple")
    with pytest.raises(DlkitError, match="tile and tta are for semantic segmentation"):
        python("in/0.png", OBJECTS, tile=64)
    with pytest.raises(DlkitError, match="threshold is for instance segmentation"):
        python("in/0.png", threshold=0.5)


def test_the_picture_is_the_overlay_of_the_command(command: Any, tmp_path: Path) -> None:
    for model, objects in ((COLORS, False), (OBJECTS, True)):
        folder = tmp_path / f"drawn {objects}"
        command("in/0.png", "--save", folder, finds_objects=objects)
        for image in ("in/0.png", np.array(Image.open("in/0.png"))):
            saved = python(image, model).save(tmp_path / "0.jpg")
            assert saved.read_bytes() == (folder / "0-overlay.jpg").read_bytes()
    label = load(COLORS).labels[0]
    command("in/0.png", "--save", tmp_path / "one", "--classes", label)
    saved = python("in/0.png", classes=label).save(tmp_path / "1.jpg")
    assert saved.read_bytes() == (tmp_path / "one" / "0-overlay.jpg").read_bytes()


def test_a_result_is_saved_and_shown(command: Any, tmp_path: Path) -> None:
    found = python("in/0.png")
    command("in/0.png", "-o", tmp_path / "command.json")
    saved = found.save(tmp_path / "python.json")
    assert saved.read_text() == (tmp_path / "command.json").read_text()
    assert found._repr_html_().count("<tr>") == 1 + len(found.segments)
    assert "<img" in found._repr_html_()


def test_one_bad_image_of_many(command: Any) -> None:
    found = python(["in/0.png", "none.png", "in/1.png"], errors="return")
    assert isinstance(found[1], Failure)
    assert [one.path for one in found] == ["in/0.png", "none.png", "in/1.png"]
    with pytest.raises(DlkitError, match="none.png: no such file"):
        python(["in/0.png", "none.png"])


def test_evaluate_has_the_scores_of_the_command(command: Any, data: Path) -> None:
    scores = evaluate(data, "test", COLORS, precision="fp32")
    printed = run("segment", "evaluate", data, "-m", COLORS, *FP32, "-f", "jsonl")
    assert [asdict(score) for score in scores] == records(printed)
    assert scores["mean_iou"] == next(s.value for s in scores if s.metric == "mean_iou")
    with pytest.raises(DlkitError, match="nofolder: no such folder or file"):
        evaluate("nofolder", "test", COLORS)
