"""Masks of styles."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.style_transfer import masks


def test_masks_share_the_places_where_several_are_white(tmp_path: Path) -> None:
    halves = np.zeros((20, 30), np.uint8)
    halves[:, :20] = 255
    Image.fromarray(halves).save(tmp_path / "left.png")
    Image.fromarray(np.ascontiguousarray(halves[:, ::-1])).save(tmp_path / "right.png")
    found = masks.read_masks([str(tmp_path / "left.png"), str(tmp_path / "right.png")], 30, 20)
    assert found[:, 5, 3].tolist() == [1, 0]
    assert found[:, 5, 15].tolist() == [0.5, 0.5]
    assert found[:, 5, 28].tolist() == [0, 1]
    assert masks.read_masks([str(tmp_path / "left.png")], 60, 40).shape == (1, 40, 60)


@pytest.mark.parametrize(
    ("width", "height", "value", "said"),
    [(30, 20, 0, "black everywhere"), (20, 30, 255, "30 x 20"), (0, 0, 0, "no such file")],
)
def test_a_mask_that_does_not_fit(
    width: int, height: int, value: int, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.png"
    if width:
        Image.new("L", (width, height), value).save(path)
    with pytest.raises(DlkitError, match=said):
        masks.read_masks([str(path)], 30, 20)
