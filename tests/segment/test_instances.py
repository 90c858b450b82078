"""Models that find objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlkit.core.vision import images
from dlkit.segment import rle
from tests.conftest import one_line, records
from tests.segment.helpers import picture_of, truth_of


def test_a_model_that_finds_objects(segment: Any) -> None:
    done = segment("in/0.png", "-f", "jsonl", "--save", "out", finds_objects=True)
    (record,) = records(done)
    (found,) = record["objects"]
    assert (found["label"], found["score"]) == ("red", 0.9)
    assert (rle.decode(found["rle"]) == (truth_of(0) == 0)).all()
    with Image.open("out/0.png") as picture:
        assert (np.array(picture) == (truth_of(0) == 0)).all()
    assert images.size(Path("out/0-overlay.jpg")) == (56, 40)
    table = segment("in/0.png", "--threshold", 0.1, finds_objects=True).out.splitlines()
    assert [line.split("\t")[1:3] for line in table] == [["red", "0.9"], ["blue", "0.4"]]
    blue = segment("in/0.png", "--threshold", 0.1, "--classes", "blue", finds_objects=True)
    assert blue.out.splitlines() == table[1:]
    done = segment("in/0.png", "missing.png", "in/1.png", "-f", "jsonl", finds_objects=True)
    assert done.code == 1
    assert [r["path"] for r in records(done)] == ["in/0.png", "missing.png", "in/1.png"]


def test_objects_are_in_pixels_of_the_image_as_shown(segment: Any) -> None:
    """The network sees half of the pixels a side; masks and boxes come back doubled."""
    large = truth_of(0).repeat(2, axis=0).repeat(2, axis=1)
    picture_of(large).save("large.png")
    options = ("--image-size", 56, "-f", "jsonl", "--save", "out")
    (record,) = records(segment("large.png", *options, finds_objects=True))
    (found,) = record["objects"]
    assert [found[side] for side in ("x1", "y1", "x2", "y2")] == [0, 0, 4, 6]
    mask = rle.decode(found["rle"])
    assert mask.shape == (80, 112)
    assert (mask != (large == 0)).mean() < 0.02
    assert images.size(Path("out/large-overlay.jpg")) == (112, 80)


@pytest.mark.parametrize("option", ["--tile 64", "--tta", "--probabilities out"])
def test_what_objects_do_not_have_is_refused(option: str, segment: Any) -> None:
    done = segment("in", *option.split(), finds_objects=True)
    one_line(done, option.split()[0], "use a semantic segmentation model")
