"""Localization: losses, and boxes of images of any shape."""

import numpy as np
import pytest
import torch

from dlkit.detect.losses.localize import keypoint_losses, localize_losses
from dlkit.detect.models.localize import LocalizerOutput
from dlkit.detect.options import Suppression
from tests.conftest import NARROW
from tests.detect.helpers import Says, build

NAN = float("nan")


def test_the_keypoint_loss_by_hand() -> None:
    """Three of four keypoints are annotated, and off by 0.5, 0 and 0.25 of the side."""
    said = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.0, 0.25], [9.0, 9.0]]])
    truth = torch.tensor([[[32.0, 0.0], [16, 48]], [[0, 0], [NAN, NAN]]])
    losses = keypoint_losses(Says(said), torch.zeros(2, 3, 64, 64), truth)
    assert float(losses["keypoints"]) == pytest.approx((0.25 + 0.0625) / 3)
    nothing = keypoint_losses(Says(said), torch.zeros(2, 3, 64, 64), truth * NAN)
    assert float(nothing["keypoints"]) == 0


def test_the_multitask_loss_by_hand() -> None:
    """Two objects of which the second is larger; an image without any counts nothing."""
    boxes = torch.tensor([[[0.0, 0, 8, 8], [8, 16, 56, 64]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 1], [-1, -1]])
    said = torch.tensor([[0.125, 0.25, 0.875, 0.5], [9.0, 9, 9, 9]])
    images = torch.zeros(2, 3, 64, 64)
    network = Says(LocalizerOutput(torch.tensor([[0.0, np.log(3)], [50.0, -50.0]]), said))
    losses = localize_losses(network, images, boxes, labels, alpha=0.7)
    # The box is 1/8, 1/4, 7/8, 1 of the side, its label has three quarters.
    assert float(losses["labels"]) == pytest.approx(0.7 * np.log(4 / 3), rel=1e-5)
    assert float(losses["boxes"]) == pytest.approx(0.3 * 0.25, rel=1e-5)
    nothing = localize_losses(network, images, boxes, labels * 0 - 1, alpha=0.7)
    assert [float(loss) for loss in nothing.values()] == [0, 0]


def test_one_object_an_image_of_any_shape_in_its_pixels() -> None:
    network = build("localize", num_labels=3, image_size=64, backbone=NARROW).eval()
    with torch.no_grad():
        network.head[-1].weight.zero_()
        network.head[-1].bias.copy_(torch.tensor([0.0, 2.0, 0.0, 0.25, 0.125, 0.75, 0.5]))
    images = torch.zeros(2, 3, 96, 160, dtype=torch.uint8)
    for found in network.predict(images, 0.5, Suppression(), 10):
        assert found.boxes.tolist() == [[40, 20, 120, 80]]
        assert found.labels.tolist() == [1]
        assert float(found.scores) == pytest.approx(np.exp(2) / (np.exp(2) + 2), rel=1e-5)
    assert [len(f.boxes) for f in network.predict(images, 0.99, Suppression(), 10)] == [0, 0]
