"""Dilated convolutions against Yu and Koltun 2016."""

import pytest
import torch
from torch import nn

from dlkit.classify import backbones
from dlkit.segment.model import build
from dlkit.segment.models.dilated import DILATIONS, WIDTHS, Context
from tests.segment.helpers import RESNET, random_norms, vgg


def seen(layers: nn.Module) -> int:
    """Side of what the middle of the last map sees of the first."""
    image = torch.ones(1, 1, 101, 101, requires_grad=True)
    layers(image)[0, 0, 50, 50].backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero()  # type: ignore[union-attr]
    return int(rows.max() - rows.min()) + 1


@pytest.mark.parametrize(
    ("dilations", "sides"),
    [
        ((1, 2, 4, 8), [3, 7, 15, 31]),  # section 2 of the paper
        (DILATIONS, [3, 5, 9, 17, 33, 65, 67]),  # table 1
    ],
)
def test_what_the_context_module_sees(dilations: tuple[int, ...], sides: list[int]) -> None:
    context = Context(1, (1,) * len(dilations), dilations)
    layers = list(context)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    assert [seen(nn.Sequential(*layers[: 2 * n + 2])) for n in range(len(dilations))] == sides
    assert seen(context) == sides[-1]


@pytest.mark.parametrize("size", ["basic", "large"])
def test_the_context_module_starts_as_the_identity(size: str) -> None:
    scores = torch.rand(1, 5, 20, 20)
    with torch.no_grad():
        passed = Context(5, WIDTHS[size])(scores)
    assert torch.allclose(passed, scores, atol=0 if size == "basic" else 0.05)


def test_the_dilated_front_end_is_the_classifier_at_every_8th_pixel() -> None:
    network = build("dilated", 3, backbone=RESNET).eval()
    random_norms(network)
    strided = backbones.build(RESNET).eval()
    strided.load_state_dict(network.backbone.state_dict())
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        dense, coarse = network.backbone(images)[-1], strided(images)[-1]
    assert dense.shape[-2:] == (12, 20)
    assert torch.allclose(dense[..., ::4, ::4], coarse, atol=1e-5)


def test_a_class_with_negative_scores_still_learns_through_the_context_module() -> None:
    network = build("dilated", 3, backbone=RESNET)
    nn.init.constant_(network.score.bias, -9.0)
    images = torch.randn(2, 3, 32, 32)
    network(images)[:, 1].sum().backward()
    assert network.score.weight.grad[1].any()


def test_the_front_end_of_a_vgg_leaves_out_two_pools() -> None:
    network = build("dilated", 3, backbone=vgg(128) | {"head": True}, context="none").eval()
    layers = [m for m in network.backbone.modules() if not list(m.children())]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 3
    dilations = [layer.dilation[0] for layer in layers if isinstance(layer, nn.Conv2d)]
    assert dilations == [1] * 8 + [2, 2] + [4, 4]  # section 4: conv5 by 2, fc6 by 4; fc7 is 1x1
    maps = network.backbone(torch.randn(1, 3, 64, 96))
    assert maps[-1].shape[-2:] == (8, 12)
