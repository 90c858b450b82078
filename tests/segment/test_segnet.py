"""SegNet against Badrinarayanan et al. 2017."""

import torch
from torch import nn

from dlkit.segment.model import build


def test_unpooling_puts_values_where_the_maxima_were() -> None:
    network = build("segnet", 1, width_multiplier=0.05)
    network.backbone.stages = nn.ModuleList(
        [nn.Sequential(nn.Identity()), *(nn.Sequential(nn.MaxPool2d(2)) for _ in range(2))]
    )
    network.decoder = nn.ModuleList(nn.Identity() for _ in range(3))
    image = torch.tensor(
        [
            [1.0, 2, 0, 0, 5, 1, 1, 1],
            [3, 0, 0, 4, 1, 1, 1, 6],
            [0, 0, 1, 0, 2, 0, 0, 0],
            [9, 0, 0, 0, 0, 0, 3, 0],
        ]
    )
    expected = torch.zeros(4, 8)
    expected[3, 0], expected[1, 7] = 9, 6  # of the 4x4 blocks, two pools deep
    assert torch.equal(network.logits(image[None, None])[0, 0], expected)


def test_segnet_mirrors_its_encoder() -> None:
    with torch.device("meta"):
        network = build("segnet", 11)
    decoder = [m for blocks in reversed(network.decoder) for m in blocks.modules()]
    encoder = [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d)]
    widths = [(m.in_channels, m.out_channels) for m in decoder if isinstance(m, nn.Conv2d)]
    mirror = [(m.out_channels, m.in_channels) for m in reversed(encoder)]
    assert len(widths) == 13
    assert widths == [*mirror[:-1], (64, 11)]
