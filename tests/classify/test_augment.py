"""Augmentation."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.classify.augment import alternate_flips, augment, mix
from dlkit.classify.config import ClassifyTrainConfig


def settings(**changed: Any) -> ClassifyTrainConfig:
    plain: dict[str, Any] = {"shift": 0.0, "flip": 0.0}
    return ClassifyTrainConfig(data="none", **{**plain, **changed})  # type: ignore[arg-type]


@pytest.fixture
def picture() -> Tensor:
    """32 copies of one image (3, 16, 16), dark with a bright square left of the middle."""
    image = torch.full((3, 16, 16), 20, dtype=torch.uint8)
    image[:, 6:10, 4:8] = torch.tensor([250, 200, 150], dtype=torch.uint8).view(3, 1, 1)
    torch.manual_seed(0)
    return image.expand(32, -1, -1, -1).clone()


def test_no_augmentation_changes_nothing(picture: Tensor) -> None:
    assert torch.equal(augment(picture, settings()), picture)


def test_half_of_the_images_are_mirrored(picture: Tensor) -> None:
    out = augment(picture, settings(flip=0.5))
    mirrored = [bool(torch.equal(image, picture[0].flip(-1))) for image in out]
    same = [bool(torch.equal(image, picture[0])) for image in out]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 6 <= sum(mirrored) <= 26


def test_two_epochs_in_a_row_show_both_views_of_each_image() -> None:
    first, second, third = (alternate_flips(1000, seed=3, epoch=epoch) for epoch in range(3))
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)
    assert 450 < int(first.sum()) < 550
    assert not torch.equal(first, alternate_flips(1000, seed=4, epoch=0))


def test_alternate_flips_replace_random_ones(picture: Tensor) -> None:
    assert torch.equal(augment(picture, settings(flip=0.5, alternate_flip=True)), picture)


def test_shifts_move_each_image_by_its_own_whole_pixels(picture: Tensor) -> None:
    out = augment(picture, settings(shift=0.125))
    places = {tuple((image[0] > 100).nonzero().float().mean(0).tolist()) for image in out}
    assert len(places) > 10
    for y, x in places:
        assert abs(y - 7.5) <= 2
        assert abs(x - 5.5) <= 2
    assert ((out > 100).sum(dim=(1, 2, 3)) == 48).all()  # the square stays whole


def test_a_zoom_keeps_colors_and_changes_sizes(picture: Tensor) -> None:
    out = augment(picture, settings(zoom=1.5))
    sizes = (out[:, 0] > 120).sum(dim=(1, 2)).float()
    assert float(sizes.max()) > 24
    assert float(sizes.min()) < 13
    assert float(sizes.min()) >= 4 / 9 * 16 - 4
    assert float(sizes.max()) <= 2.25 * 16 + 8


def test_a_turn_by_a_quarter_moves_the_square_above_or_below(picture: Tensor) -> None:
    torch.manual_seed(3)
    out = augment(picture, settings(rotate=180))
    distance = [((image[0] > 120).nonzero().float().mean(0) - 7.5).norm().item() for image in out]
    assert np.allclose(distance, 2.0, atol=0.5)  # it turns about the middle
    rows = {round((image[0] > 120).nonzero().float().mean(0)[0].item()) for image in out}
    assert len(rows) > 2


def test_cutout_squares_have_at_most_their_size(picture: Tensor) -> None:
    out = augment(picture, settings(cutout=0.5))
    changed = (out != picture).any(dim=1).sum(dim=(1, 2))
    assert int(changed.max()) <= 64
    assert int(changed.max()) >= 36
    assert len(set(changed.tolist())) > 3


def test_recoloring_keeps_gray_gray_and_in_range() -> None:
    gray = torch.full((8, 3, 4, 4), 100, dtype=torch.uint8)
    out = augment(gray, settings(color_jitter=0.5))
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-3)
    assert float(out.min()) >= 50 - 1e-3
    assert float(out.max()) <= 150 + 1e-3
    assert out.std() > 1


def test_randaugment_changes_images_and_keeps_their_form(picture: Tensor) -> None:
    out = augment(picture, settings(randaugment=9))
    assert out.shape == picture.shape
    assert out.dtype == torch.uint8
    assert (out != picture).any(dim=1).any(dim=1).any(dim=1).sum() > 20


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_targets_are_mixed_as_the_images_are(name: str) -> None:
    """Label 1 is white, label 0 black: the mean of an image is its share of label 1."""
    torch.manual_seed(0)
    labels = torch.arange(16) % 2
    images = (255 * labels).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).to(torch.uint8)
    seen = set()
    for _ in range(5):
        out, targets = mix(images, F.one_hot(labels, 2).float(), settings(**{name: 1.0}))
        assert torch.allclose(out.float().mean(dim=(1, 2, 3)) / 255, targets[:, 1], atol=1e-2)
        assert torch.allclose(targets.sum(1), torch.ones(16))
        seen.add(round(float(targets[0, 0]), 3))
    assert len(seen) > 1
