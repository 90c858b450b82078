"""COCO's run-length code against pycocotools."""

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from dlkit.core.errors import DlkitError
from dlkit.segment import rle


def test_run_lengths_by_hand() -> None:
    """Column by column: one zero, three ones, two zeros. 15 is one digit of five bits, 32 two."""
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    assert rle.run_lengths(mask).tolist() == [1, 3, 2]
    assert rle.encode(mask) == {"size": [2, 3], "counts": "132"}
    assert rle.encode(np.ones((1, 15), bool))["counts"] == "0?"
    assert rle.encode(np.ones((1, 32), bool))["counts"] == "0P1"
    assert rle.decode({"size": [2, 3], "counts": [1, 3, 2]}).tolist() == mask.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (37, 51), (200, 300)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_run_lengths_are_those_of_pycocotools(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(0).random(shape) < share
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    assert (ours["size"], ours["counts"].encode()) == (list(shape), theirs["counts"])
    assert (rle.decode(ours) == mask).all()
    assert (rle.decode({**ours, "counts": theirs["counts"]}) == mask).all()


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"size": [2, 3]},
        {"size": [2, 3], "counts": ""},
        {"size": [2, 3], "counts": "13"},
        {"size": [2, 3], "counts": "P"},
        {"size": [2, 3], "counts": "1é2"},
        {"size": [2, 3], "counts": [7, -1]},
        {"size": [2, 3], "counts": "PPPPPPPPPPPP1"},
        {"size": "x", "counts": [6]},
    ],
)
def test_bad_run_lengths_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(DlkitError, match="mask"):
        rle.decode(bad)
