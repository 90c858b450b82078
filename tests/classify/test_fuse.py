"""Fused networks against the original ones."""

import pytest
import torch
from torch import nn

from dlkit.classify.model import build
from dlkit.classify.models.fuse import fuse
from tests.classify.helpers import random_statistics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "norms_left"),
    [
        ("lenet", 0),
        ("googlenet", 0),
        ("inception-v3", 0),
        ("resnet18", 0),
        ("resnet50", 0),
        ("preact-resnet", 9),  # a norm before each block and after the last
        ("resnet9", 3),  # those behind a pool
        ("densenet121", 62),  # a norm before each of 58 dense layers and 3 transitions, one last
        ("mobilenet-v2", 0),
        ("mobilenet-v3", 0),
        ("vgg11", 0),
        ("airbench", 3),  # those behind a pool
    ],
)
def test_fused_networks_have_the_same_outputs(arch: str, norms_left: int) -> None:
    torch.manual_seed(0)
    network = build(arch, 3, 28, norm="batch" if arch == "vgg11" else None).eval()
    random_statistics(network)
    fused = fuse(network)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules()) == norms_left
    images = torch.randn(2, 3, 28, 28).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = network(images)
        assert expected.abs().max() < 1000
        torch.testing.assert_close(fused(images), expected, rtol=1e-4, atol=1e-4)
        low = fused.to(torch.bfloat16)(images.bfloat16())
    assert low.isfinite().all()
