"""Sliding windows, and shift-and-stitch."""

import copy
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from dlkit.classify.backbones import Backbone
from dlkit.classify.data import Preprocessing
from dlkit.classify.models.network import Network
from dlkit.segment.model import build
from tests.segment.helpers import PREPROCESSING, RESNET, random_norms


@pytest.mark.parametrize(("window", "step"), [(33, 1), (32, 1), (35, 4)])
def test_patch_is_cropping_by_hand(window: int, step: int) -> None:
    network = build("patch", 3, backbone=RESNET, window=window, step=step).eval()
    random_norms(network)
    images = torch.randn(2, 3, 6, 9)
    before = window // 2
    padding = ((0, 0), (0, 0), (before, window), (before, window))
    padded = torch.from_numpy(np.pad(images.numpy(), padding, mode="reflect"))
    places = torch.cartesian_prod(torch.arange(2), torch.arange(0, 6, step), torch.arange(9))
    places = places[places[:, 2] % step == 0]
    with torch.no_grad():
        expected = torch.cat(
            [
                network.classify(padded[b, None, :, y : y + window, x : x + window])
                for b, y, x in places.tolist()
            ]
        )
        logits = network(images)
        assert torch.allclose(network(images, places), expected, atol=1e-5)
    found = logits[places[:, 0], :, places[:, 1], places[:, 2]]
    assert expected.std() > 0.01
    assert torch.allclose(found, expected, atol=1e-5)
    middle = (logits[..., 0, 0] + logits[..., 0, step]) / 2  # of two windows' logits, on a line
    assert step % 2 or torch.allclose(logits[..., 0, step // 2], middle, atol=1e-5)


def tiny_backbone(*_: object) -> Backbone:
    convolutions = [nn.Conv2d(inputs, 6, 3, padding=1) for inputs in (3, 6, 6)]
    first, second, third = (nn.Sequential(layer, nn.ReLU()) for layer in convolutions)
    features = nn.Sequential(first, nn.MaxPool2d(2), second, nn.MaxPool2d(2), third)
    return Backbone(Network(features, nn.Identity()), Preprocessing(**PREPROCESSING))


def test_shift_and_stitch_is_the_network_evaluated_densely() -> None:
    with mock.patch("dlkit.segment.models.patch.make_backbone", tiny_backbone):
        every = build("shift-and-stitch", 2, step=1).eval()
        some = build("shift-and-stitch", 2, step=2).eval()
    some.load_state_dict(every.state_dict())
    assert every.stride == 4
    images = torch.randn(1, 3, 33, 41, requires_grad=True)
    dense = copy.deepcopy(every.backbone.stages)
    dense[1][0], dense[2][0] = nn.MaxPool2d(2, 1), nn.MaxPool2d(2, 1, dilation=2)
    for stage, dilation in ((1, 2), (2, 4)):
        convolution = dense[stage][1][0]
        convolution.dilation = convolution.padding = (dilation, dilation)
    expected = every.score(nn.Sequential(*dense)(images))
    stitched = every(images)
    assert stitched.shape == (1, 2, 33, 41)
    # Away from the borders, where the zeros of the padding lie elsewhere.
    inside = slice(12, 21)
    assert expected[..., inside, inside].std() > 0.01
    # Two pools move the middle by 0.5 and 1 pixels, of which the whole one is taken back.
    earlier = slice(inside.start - 1, inside.stop - 1)
    assert torch.allclose(stitched[..., inside, inside], expected[..., earlier, earlier], atol=1e-5)
    assert torch.allclose(some(images)[..., ::2, ::2], stitched[..., ::2, ::2], atol=1e-5)

    stitched[0, 0, 16, 18].backward()
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero()  # type: ignore[union-attr]
    assert abs(float(rows.min() + rows.max()) / 2 - 16) <= 0.5


def test_shift_and_stitch_learns_from_one_pass() -> None:
    with mock.patch("dlkit.segment.models.patch.make_backbone", tiny_backbone):
        network = build("shift-and-stitch", 2, step=1)
    images = torch.randn(1, 3, 9, 14)
    with torch.no_grad():
        learning, exact = network.train()(images), network.eval()(images)
    assert torch.allclose(learning[..., ::4, ::4], exact[..., ::4, ::4], atol=1e-5)
    assert not torch.allclose(learning, exact, atol=1e-3)
