"""Keypoints in the descriptions of data sets."""

from pathlib import Path

import pytest

from dlkit.core.datasets.poses import mirrored_names
from dlkit.core.datasets.samples import Pose
from dlkit.core.datasets.sources import find_source
from dlkit.core.errors import DlkitError
from tests.core.datasets.test_sources import annotations, yolo


@pytest.mark.parametrize(
    ("names", "mirrored"),
    [
        (["nose", "left_eye", "right_eye"], (0, 2, 1)),
        (["REye", "LEye", "Nose"], (1, 0, 2)),
        (["eyeLeft", "eyeRight"], (1, 0)),
        (["arm.L", "arm.R", "Left Leg", "Right Leg"], (1, 0, 3, 2)),
        (["Lip", "copyright", "lower"], None),
        (["left_eye", "nose"], None),
        (["left", "left"], None),
        ([], None),
    ],
)
def test_names_with_sides_have_counterparts(
    names: list[str], mirrored: tuple[int, ...] | None
) -> None:
    assert mirrored_names(names) == mirrored


@pytest.mark.parametrize(
    ("description", "pose"),
    [
        ("kpt_shape: [2, 3]", Pose(2)),
        ("kpt_shape: [2, 2]\nflip_idx: [1, 0]", Pose(2, mirrored=(1, 0))),
        ("kpt_shape: [2, 2]\nflip_idx: []\nkpt_names: [a, b]", Pose(2, ("a", "b"))),
        (
            "kpt_shape: [2, 2]\nkpt_names: {0: [left, right]}",
            Pose(2, ("left", "right"), mirrored=(1, 0)),
        ),
    ],
)
def test_yolo_describes_poses(description: str, pose: Pose, tmp_path: Path) -> None:
    data = yolo(tmp_path, "", f"names: [cat]\n{description}")
    assert find_source(data, "keypoints").classes.poses == {"cat": pose}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("flip_idx: [1, 0, 2]", "flip_idx is not a list of the 2 keypoints from 0"),
        ("flip_idx: [0, 0]", "flip_idx is not a list"),
        ("flip_idx: [1, x]", "'x' for flip_idx is not a whole number"),
        ("kpt_names: [a, b, c]", "kpt_names has 3 different names, but kpt_shape 2"),
        ("kpt_names: [a, a]", "kpt_names has 1 different names"),
        ("kpt_names: {3: [a, b]}", "kpt_names has a class 3, which `names` does not have"),
        ("kpt_names: 2", "kpt_names is not a list of names"),
    ],
)
def test_a_contradiction_is_refused(description: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match=message):
        find_source(yolo(tmp_path, "", f"names: [cat]\nkpt_shape: [2, 3]\n{description}"))


def test_a_cycle_of_three_is_no_mirror(tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="in which two change places"):
        find_source(yolo(tmp_path, "", "names: [cat]\nkpt_shape: [3, 3]\nflip_idx: [1, 2, 0]"))


def test_a_visibility_of_yolo_is_0_1_or_2(tmp_path: Path) -> None:
    line = "0 .5 .5 .25 .5 .25 .5 0.5 0 0 0"
    (found,) = annotations(yolo(tmp_path, line, "names: [cat]\nkpt_shape: [2, 3]"))
    assert found.pose_flaw == found.flaw == "keypoint whose visibility is not 0, 1 or 2"
