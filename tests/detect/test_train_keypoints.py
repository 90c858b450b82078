"""`dlkit detect train --arch localize --keypoints K`: what it refuses."""

from pathlib import Path

import pytest

from tests.conftest import run
from tests.detect.helpers import CORNERS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--keypoints 2", "train.csv: has more than 2 keypoints"),
        ("--keypoints 4", "train.csv: no column named x4"),
        ("--keypoints 3 --alpha 0.4", "--alpha is for boxes, not for --keypoints"),
        ("--keypoints 3 --flip 0.2", "--flip is for boxes"),
        ("--keypoints 3 --arch ssd", "--keypoints is for localize, not ssd"),
        ("--keypoints 3 --mosaic 0.5", "--mosaic is for yolo"),
    ],
)
def test_options_that_do_not_fit(corners: Path, tmp_path: Path, options: str, message: str) -> None:
    done = run(
        "detect", "train", corners, "--out", tmp_path / "run", "--arch", "localize",
        *options.split(),
    )  # fmt: skip
    assert done.code == 2
    assert message in done.err
    assert done.err.count("dlkit: ") == 1


def test_data_without_keypoints_says_what_is_missing(shapes: Path, tmp_path: Path) -> None:
    command = ["--out", tmp_path / "run", "--arch", "localize", "--keypoints", 3]
    done = run("detect", "train", shapes, *command)
    assert done.code == 2
    assert "no train.csv" in done.err
    (tmp_path / "train.csv").write_text(f"{CORNERS}\ngone.png,1,2,3,4,5,6\n")
    done = run("detect", "train", tmp_path, *command)
    assert done.code == 2
    assert "none of the 1 images of 'train' can be used, most often: missing image" in done.err
    assert done.err.count("dlkit: ") == 1
