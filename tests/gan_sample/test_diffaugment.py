"""Differentiable augmentation."""

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.gan_sample import diffaugment


def test_augmentation_lets_gradients_through() -> None:
    torch.manual_seed(0)
    images = (0.5 * torch.randn(4, 3, 8, 8)).requires_grad_()
    diffaugment.augment(images, ["color", "translation", "cutout"]).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


def test_translation_moves_whole_pictures_by_an_eighth_at_most() -> None:
    torch.manual_seed(0)
    images = torch.zeros(200, 1, 16, 16)
    images[:, :, 8, 8] = 1
    places = diffaugment.translate(images).nonzero()[:, 2:] - 8
    assert len(places) == 200
    assert places.min() == -2
    assert places.max() == 2
    ones = diffaugment.translate(torch.ones(200, 1, 16, 16))
    assert set(ones.sum(dim=(1, 2, 3)).tolist()) == {
        float(h * w) for h in (14, 15, 16) for w in (14, 15, 16)
    }


def test_cutout_takes_a_square_of_half_the_side() -> None:
    torch.manual_seed(0)
    left = diffaugment.cutout(torch.ones(300, 2, 16, 16))
    removed = (1 - left[:, 0]).sum(dim=(1, 2))
    assert removed.max() == 64
    assert removed.min() == 16  # a quarter of the hole, in a corner
    assert torch.equal(left[:, 0], left[:, 1])
    rows, columns = (1 - left[0, 0]).sum(dim=0), (1 - left[0, 0]).sum(dim=1)
    assert len(set(rows[rows > 0].tolist())) == len(set(columns[columns > 0].tolist())) == 1


def test_recoloring_changes_no_gray_picture_into_a_colored_one() -> None:
    torch.manual_seed(0)
    gray = torch.randn(20, 1, 6, 6).expand(-1, 3, -1, -1)
    out = diffaugment.jitter_color(gray)
    assert torch.allclose(out[:, 0], out[:, 2], atol=1e-5)
    contrast = out.std(dim=(1, 2, 3)) / gray.std(dim=(1, 2, 3))
    assert float(contrast.min()) >= 0.5
    assert float(contrast.max()) <= 1.5
    assert float((out - gray).mean(dim=(1, 2, 3)).abs().max()) <= 0.5 + 1e-5


def test_a_policy_is_named() -> None:
    assert diffaugment.parse_policy("none") == []
    assert diffaugment.parse_policy("cutout, color") == ["cutout", "color"]
    with pytest.raises(DlkitError, match="--augment hue: unknown; choose from none, color"):
        diffaugment.parse_policy("hue")
