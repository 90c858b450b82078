"""`caption` in Python: the sentences of the command, for files and images in memory."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.caption import ImageCaptions, caption, evaluate, load
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from tests.caption.helpers import pictures
from tests.conftest import records, run

FP32 = ("--precision", "fp32")


@pytest.fixture(scope="module")
def model(learned: Callable[[str], Path]) -> Path:
    return learned("nic")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pictures()[4][0].save(tmp_path / "4.png")
    return tmp_path / "4.png"


def test_a_file_has_the_record_of_the_command(model: Path, picture: Path) -> None:
    pairs: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({"captions": 3}, ["-n", "3"]),
        (
            {"captions": 2, "beam": 7, "length_penalty": 0.0},
            ["-n", "2", "--beam", "7", "--length-penalty", "0"],
        ),
        ({"no_repeat": 2, "max_length": 4}, ["--no-repeat", "2", "--max-length", "4"]),
        ({"sample": True, "seed": 3, "top_p": 0.9}, ["--sample", "--seed", "3", "--top-p", "0.9"]),
    ]
    for options, arguments in pairs:
        found = caption(picture, model, precision="fp32", **options)
        assert isinstance(found, ImageCaptions)
        done = run("caption", picture, "-m", model, *FP32, "-f", "jsonl", *arguments)
        assert [asdict(found)] == records(done)
    assert caption(picture, model).captions[0].caption == pictures()[4][1]


def test_an_image_in_memory_has_the_captions_of_its_file(model: Path, picture: Path) -> None:
    captioner = load(model, precision="fp32")
    expected = captioner(picture, captions=2).captions
    pixels = np.array(Image.open(picture))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (Image.open(picture), pixels, pixels / 255, tensor, tensor / 255):
        assert captioner(image, captions=2).captions == expected
    assert len(captioner(torch.stack([tensor, tensor]))) == 2


def test_the_picture_is_that_of_the_command(model: Path, picture: Path, tmp_path: Path) -> None:
    run("caption", picture, "-m", model, "-n", 2, "--annotate", tmp_path / "out")
    expected = np.array(Image.open(tmp_path / "out" / "4.png"))
    for image in (picture, np.array(Image.open(picture))):
        assert np.array_equal(np.array(caption(image, model, captions=2).picture()), expected)
    html = caption(picture, model)._repr_html_()
    assert "<img" in html
    assert pictures()[4][1] in html


def test_wrong_inputs_and_options_are_refused(model: Path, picture: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"captions": 0}, "captions=0: not in the range"),
        ({"captions": 3, "beam": 2}, "more than --beam 2"),
        ({"temperature": 0.5}, "without --sample"),
        ({"sample": True, "no_repeat": 2}, "no_repeat: has no effect with sample"),
    ]
    for options, message in wrong:
        with pytest.raises(DlkitError, match=message):
            caption(picture, model, **options)
    found = caption([picture, "none.png"], model, errors="return")
    assert isinstance(found[1], Failure)


def test_evaluate_has_the_scores_of_the_command(model: Path, shapes: Path) -> None:
    scores = evaluate(shapes, "test", model)
    done = run("caption", "evaluate", shapes, "-m", model, "-f", "jsonl")
    assert [asdict(score) for score in scores] == records(done)
