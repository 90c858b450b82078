"""Fully convolutional networks against Shelhamer et al. 2016."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.segment.model import build
from dlkit.segment.models.fcn import Upsampling
from tests.segment.helpers import RESNET, random_norms, vgg


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_upsampling_starts_as_bilinear_interpolation(factor: int) -> None:
    maps = torch.randn(2, 3, 5, 4)
    with torch.no_grad():
        upsampled = Upsampling(3, factor)(maps)
    expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    assert torch.allclose(upsampled, expected, atol=1e-5)


def test_fcn_skips_start_from_the_coarser_network() -> None:
    """16s begins as 32s, and 8s as 16s, but for what a doubling does to bilinear interpolation."""
    images = torch.randn(1, 3, 64, 96)
    coarser: dict[str, Tensor] = {}
    scores = torch.zeros(0)
    for arch in ("fcn32s", "fcn16s", "fcn8s"):
        network = build(arch, 3, backbone=RESNET).eval()
        fitting = {n: w for n, w in coarser.items() if w.shape == network.state_dict()[n].shape}
        assert fitting.keys() == coarser.keys()
        network.load_state_dict(fitting, strict=False)
        with torch.no_grad():
            logits = network(images)
            if arch == "fcn32s":
                random_norms(network)
                last = network.backbone(images)[-1]
                scores, logits = network.scores["32"](last), network(images)
            else:
                scores = F.interpolate(scores, scale_factor=2.0, mode="bilinear")
        expected = F.interpolate(scores, images.shape[-2:], mode="bilinear")
        assert logits.std() > 0.01
        assert torch.allclose(logits, expected, atol=1e-5)
        coarser = network.state_dict()


def test_fcn_adds_the_scores_of_pools_of_a_vgg() -> None:
    network = build("fcn8s", 3, backbone=vgg(96)).eval()
    random_norms(network)
    images = torch.randn(1, 3, 64, 64)
    pools: dict[int, Tensor] = {}
    x = images
    with torch.no_grad():
        for layer in [layer for stage in network.backbone.stages for layer in stage]:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pools[64 // x.shape[-1]] = x
        maps = network.maps(images)
    assert torch.equal(maps[8], pools[8])
    assert torch.equal(maps[16], pools[16])
    assert torch.equal(maps[32], x)
