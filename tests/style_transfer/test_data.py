"""Training images."""

from pathlib import Path

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.style_transfer.data import SquareCrops, center_crops, list_images, random_crop


def test_squares_are_parts_of_pictures_of_any_size() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(100, dtype=torch.uint8).view(1, 1, -1).expand(3, 50, -1)
    starts = set()
    for _ in range(20):
        part = random_crop(ramp, 50)
        assert part.shape == (3, 50, 50)
        row = part[0, 0].int()
        # Not resized, since no part is larger; mirrored or not.
        assert row.diff().unique().tolist() in ([1], [-1])
        starts.add(int(row.min()))
    assert len(starts) > 10
    small = torch.full((3, 9, 12), 7, dtype=torch.uint8)
    assert (random_crop(small, 16) == 7).all()


def test_unreadable_pictures_are_skipped_and_named(
    examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    squares = SquareCrops(list_images([str(examples / "photos")], "photographs"), 16, Ledger())
    assert len(squares) == 4
    assert "skipped 1 of 5 pictures (20 %): 1 unreadable picture" in capsys.readouterr().err
    assert squares[0].shape == (3, 16, 16)
    # The shorter side is at most twice the square's.
    assert min(squares.pictures[0].shape[1:]) == 32
    broken = [str(examples / "photos" / "broken.jpg")]
    assert center_crops(broken, 16, Ledger()).shape == (0, 3, 16, 16)
    with pytest.raises(DlkitError, match="broken.jpg: unreadable, and so are all others"):
        SquareCrops(broken, 16, Ledger())
