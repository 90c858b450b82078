"""Colors of labels."""

import itertools

import numpy as np
import pytest

from dlkit.core.io.colors import label_colors

CAMVID = [
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
]  # fmt: skip
OTHERS = ["Sidewalk", "Animal", "Archway", "LaneMkgsDriv"]


def test_street_scenes_have_the_colors_that_people_know() -> None:
    colors = label_colors(CAMVID)

    def strongest(label: str) -> str:
        return "rgb"[int(np.argmax(colors[label]))]

    assert [strongest(label) for label in ("Sky", "Tree", "Car", "Pedestrian")] == list("bgbr")
    assert len(set(colors["Building"])) == 1  # gray
    assert colors["Road"] == (128, 64, 128)
    assert label_colors(["traffic light", "road"])["traffic light"] == (250, 170, 30)


def test_other_names_of_a_street_scene_are_far_from_the_known() -> None:
    colors = label_colors([*CAMVID, *OTHERS])
    assert list(colors) == [*CAMVID, *OTHERS]
    for one, other in itertools.product(OTHERS, colors):
        assert one == other or np.linalg.norm(np.subtract(colors[one], colors[other])) > 60


@pytest.mark.parametrize("number", [2, 5, 8, 30])
def test_labels_have_colors_of_their_own(number: int) -> None:
    colors = label_colors([f"label {k}" for k in range(number)])
    assert len(set(colors.values())) == number
    # A label keeps its color whatever comes after it; objects are not colored as a street.
    assert label_colors(["label 0", "label 1", "car"])["label 1"] == colors["label 1"]
    assert label_colors(["person", "label 1"])["person"] == colors["label 0"]
