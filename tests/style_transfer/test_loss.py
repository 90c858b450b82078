"""Content, style and total variation losses, against their formulas."""

import pytest
import torch

from dlkit.style_transfer.loss import (
    CHUNK,
    content_loss,
    gram,
    style_loss,
    total_variation,
)


def test_gram_by_hand() -> None:
    # Two maps of two places: 1 3 and 2 -1; sums of products over 2 places.
    maps = torch.tensor([[[[1.0, 3.0]], [[2.0, -1.0]]]])
    assert gram(maps).tolist() == [[[5.0, -0.5], [-0.5, 2.5]]]


def test_gram_and_its_gradient_are_those_of_einsum() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 6, 7, dtype=torch.double).float().requires_grad_()
    weights = torch.randn(2, 5, 5)
    expected = torch.einsum("bihw,bjhw->bij", maps, maps) / 42
    torch.testing.assert_close(gram(maps), expected)
    (own,) = torch.autograd.grad((gram(maps) * weights).sum(), maps)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), maps)
    torch.testing.assert_close(own, theirs)


def test_gram_of_bf16_is_better_than_a_sum_in_bf16() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 3, CHUNK + 5).bfloat16()
    exact = torch.einsum("bihw,bjhw->bij", maps.double(), maps.double()) / (3 * (CHUNK + 5))
    error = (gram(maps) - exact).abs().max()
    assert error < 0.5 * 2**-8 * exact.abs().max()


def test_a_mask_counts_its_places_only() -> None:
    maps = torch.randn(1, 4, 6, 8)
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., :3] = 1
    torch.testing.assert_close(gram(maps, mask), gram(maps[..., :3]))


def test_content_and_style_losses_are_the_papers_up_to_means() -> None:
    maps, targets = {"a": torch.randn(1, 3, 4, 5)}, {"a": torch.randn(1, 3, 4, 5)}
    # Equation 1 has half the sum of squares over 3 maps of 20 places.
    expected = 0.5 * (maps["a"] - targets["a"]).square().sum()
    torch.testing.assert_close(content_loss(maps, targets, {"a": 2.0}) * 60 / 4, expected)
    # Equation 4 has sums in the Gram matrices, over 4 N^2 M^2, here with N = 3 and M = 20.
    grams = [torch.einsum("bihw,bjhw->bij", m, m) for m in (maps["a"], targets["a"])]
    expected = (grams[0] - grams[1]).square().sum() / (4 * 9 * 400)
    found = style_loss(maps, {"a": gram(targets["a"])}, {"a": 0.25})
    torch.testing.assert_close(found, expected)


def test_total_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    # Down 0.5 and -0.5, across 1 and 0.
    assert float(total_variation(image)) == pytest.approx(0.25 + 0.5)
