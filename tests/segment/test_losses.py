"""The losses are those of the papers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from dlkit.segment.architecture import TrainingBatch
from dlkit.segment.losses.instance import instance_loss
from dlkit.segment.losses.semantic import (
    as_single_pixels,
    dice_loss,
    pixel_loss,
    random_pixels,
    segmentation_loss,
)
from dlkit.segment.masks import IGNORED
from tests.segment.helpers import (
    settings,
)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 8, generator=generator)
    mask = torch.randint(0, 3, (2, 6, 8), generator=generator)
    mask[0, :2] = IGNORED
    return logits, mask


def test_cross_entropy_leaves_out_ignored_pixels() -> None:
    logits, mask = batch()
    flat, goals = logits.movedim(1, -1)[mask != IGNORED], mask[mask != IGNORED]
    expected = -flat.log_softmax(dim=-1).gather(1, goals[:, None]).mean()
    assert torch.allclose(segmentation_loss(logits, mask, settings()), expected)
    weights = torch.tensor([0.2, 1.0, 5.0])
    weighted = segmentation_loss(logits, mask, settings(), weights)
    theirs = F.cross_entropy(logits, mask, weights, ignore_index=IGNORED)
    assert torch.allclose(weighted, theirs)
    nothing = torch.full_like(mask, IGNORED)
    for loss in ("cross-entropy", "focal", "cross-entropy+dice"):
        assert segmentation_loss(logits, nothing, settings(loss=loss), weights) == 0


def test_focal_loss_is_torchvisions_for_two_classes() -> None:
    logits, mask = batch()
    logits, mask = logits[:, :2], mask.clamp(max=1)
    odds = logits[:, 1] - logits[:, 0]
    expected = sigmoid_focal_loss(odds, mask.float(), alpha=-1, gamma=2.5, reduction="mean")
    assert torch.allclose(pixel_loss(logits, mask, 2.5, None), expected, atol=1e-6)


def test_dice_loss_by_hand() -> None:
    """Two pixels of class 0 and one of class 1, all at even odds; class 2 is not in the truth."""
    logits = torch.tensor([0.0, 0.0, -100.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    mask = torch.tensor([[[0, 0], [1, IGNORED]]])
    # 2 * 1 / (2 + 1.5) and 2 * 0.5 / (1 + 1.5).
    expected = 1 - (2 / 3.5 + 1 / 2.5) / 2
    assert float(dice_loss(logits, mask)) == pytest.approx(expected, rel=1e-5)
    sure = F.one_hot(mask.clamp(max=2), 3).movedim(-1, 1) * 100.0
    assert float(dice_loss(sure, mask)) == pytest.approx(0, abs=1e-5)


def test_the_border_adds_to_the_weight_of_a_class() -> None:
    logits, mask = batch()
    config = settings(border_weight=10.0)
    border = torch.rand(mask.shape)
    class_weight = torch.tensor([0.2, 1.0, 5.0])
    losses = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="none")
    weights = (class_weight[mask.clamp(max=2)] + 10 * border) * (mask != IGNORED)
    expected = (losses * weights).sum() / weights.sum()
    assert torch.allclose(segmentation_loss(logits, mask, config, class_weight, border), expected)


def test_a_random_part_of_the_pixels_has_the_same_mean_loss() -> None:
    torch.manual_seed(0)
    logits, mask = batch()
    whole = segmentation_loss(logits, mask, settings())
    parts = [float(segmentation_loss(logits, mask, settings(loss_share=0.3))) for _ in range(400)]
    assert len(set(parts)) > 100
    assert np.mean(parts) == pytest.approx(float(whole), rel=0.03)


def test_places_are_of_pixels_with_a_class() -> None:
    logits, mask = batch()
    mask[1] = IGNORED
    places = random_pixels(mask, 200)
    assert places.shape == (400, 3)
    assert len({tuple(place) for place in places.tolist()}) > 30
    image, row, column = places.unbind(1)
    _, pixels = as_single_pixels(logits[image, :, row, column], mask, places)
    assert (pixels[:200] != IGNORED).all()
    # The image without a class leaves the loss of the other as it is.
    both = segmentation_loss(logits[image, :, row, column][..., None, None], pixels, settings())
    assert torch.isfinite(both)


def test_targets_of_objects_are_torchvisions() -> None:
    numbers = torch.zeros(2, 10, 12, dtype=torch.uint8)
    numbers[0, 2:5, 3:9] = 1
    numbers[0, 7, 0] = 3  # nothing is left of the second
    seen: list[Any] = []

    class Network(torch.nn.Module):
        def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
            seen.append((images, targets))
            return {"a": torch.tensor(1.0), "b": torch.tensor(2.5)}

    images = torch.full((2, 3, 10, 12), 1.0)
    labels = torch.tensor([[4, 0, 6], [-1, -1, -1]])
    batch = TrainingBatch(images, torch.zeros_like(numbers), numbers, labels, None)
    assert instance_loss(Network(), batch, settings()) == 3.5
    ((inputs, (first, second)),) = seen
    assert len(inputs) == 2
    assert float(inputs[0].max()) == 1
    assert first["boxes"].tolist() == [[3, 2, 9, 5], [0, 7, 1, 8]]
    assert first["labels"].tolist() == [5, 7]
    assert first["masks"].sum(dim=(1, 2)).tolist() == [18, 1]
    assert second["boxes"].shape == (0, 4)
