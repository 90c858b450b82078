"""Pixels and masks move together."""

import random
from typing import Any

import pytest
import torch

from dlkit.segment.augment import warp
from dlkit.segment.masks import IGNORED
from tests.segment.helpers import (
    HEIGHT,
    WIDTH,
    settings,
    tensors,
)


@pytest.mark.parametrize(
    ("changes", "dims"),
    [({}, []), ({"flip": 1.0}, [-1]), ({"flip_vertical": 1.0}, [-2])],
)
def test_mirroring_is_exact(changes: dict[str, Any], dims: list[int]) -> None:
    image, indices = tensors()
    same = warp(image, indices, (HEIGHT, WIDTH), settings(**changes))
    assert torch.equal(same[0], image.flip(dims))
    assert torch.equal(same[1], indices.flip(dims))


def test_a_crop_is_a_part_of_the_image() -> None:
    """Positions are not whole pixels; masks, taken from the nearest, are some part exactly."""
    random.seed(3)
    image, indices = tensors()
    _, part = warp(image, indices, (20, 24), settings())
    windows = indices[0].unfold(0, 20, 1).unfold(1, 24, 1)
    assert (windows == part[0]).flatten(2).all(dim=-1).any()


@pytest.mark.parametrize(
    "changes",
    [{"zoom": 2.0}, {"rotate": 180.0}, {"elastic": 4.0}, {"zoom": 1.5, "rotate": 30.0}],
)
def test_masks_move_with_their_pixels(changes: dict[str, Any]) -> None:
    """In an image painted by its mask, the moved image still tells the moved mask."""
    random.seed(0)
    torch.manual_seed(0)
    _, indices = tensors()
    image = (100 * indices[:1]).expand(3, -1, -1)
    for _ in range(5):
        pixels, found = warp(image, indices, (HEIGHT, WIDTH), settings(**changes))
        counted = found[0] != IGNORED
        told = (pixels[0].float() / 100).round()
        # Both interpolations round differently at the objects' borders.
        assert (told == found[0])[counted].float().mean() > 0.93
        assert set(found[1][~counted].tolist()) <= {0}
        assert counted.float().mean() > 0.2


def test_rotation_keeps_shapes() -> None:
    """A square picture content stays square: a disc's area and extent are the same at any angle."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(80), indexing="ij")
    disc = (((y - 19.5) ** 2 + (x - 39.5) ** 2) < 15**2).to(torch.uint8)[None]
    for seed in range(5):
        random.seed(seed)
        _, found = warp(disc.expand(3, -1, -1), disc, (40, 80), settings(rotate=180.0))
        different = (found[0] == 1) != (disc[0] == 1)
        assert different.float().mean() < 0.01
