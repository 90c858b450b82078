"""Layers and functions that several detectors share."""

import copy

import torch
from torch import nn

from dlkit.detect.models.detector import ConvBlock, pad_narrow_maps


def test_fusing_twice_changes_nothing() -> None:
    block = ConvBlock(2, 2).eval()
    block.fuse()
    x = torch.randn(1, 2, 8, 8)
    before = block(x)
    block.fuse()
    assert torch.equal(block(x), before)


def test_narrow_maps_are_widened_with_nothing() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    for shape in [(1, 1), (1, 4), (3, 1), (2, 2), (5, 3)]:
        x = torch.rand(2, 2, *shape)
        expected = layer(x)
        pad_narrow_map = nn.Sequential(copy.deepcopy(layer))
        pad_narrow_maps(pad_narrow_map)
        assert torch.allclose(pad_narrow_map(x), expected, atol=1e-6)
