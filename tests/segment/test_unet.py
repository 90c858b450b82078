"""U-Net against Ronneberger et al. 2015."""

import numpy as np
import pytest
import torch

from dlkit.segment.model import build


def test_unet_is_the_papers() -> None:
    with torch.device("meta"):
        network = build("unet", 2)
        tile = build("unet", 2, padding="valid").logits(torch.empty(1, 3, 572, 572))
    assert tile.shape == (1, 2, 388, 388)  # figure 1
    # https://github.com/milesial/Pytorch-UNet, UNet(3, 2), has as many.
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_037_698


@pytest.mark.parametrize(("depth", "margin"), [(1, 8), (2, 20), (3, 44), (4, 92)])
def test_valid_convolutions_see_a_mirrored_border(depth: int, margin: int) -> None:
    network = build("unet", 2, padding="valid", width_multiplier=0.05, depth=depth).eval()
    assert network.margin == margin
    images = torch.randn(1, 3, 22, 35)
    sides = [network.padded_side(side) for side in images.shape[-2:]]
    added = [(margin, sides[axis] - margin - images.shape[2 + axis]) for axis in range(2)]
    padded = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), *added), mode="reflect"))
    with torch.no_grad():
        inside = network.logits(padded)
        assert inside.shape[-2:] == tuple(side - 2 * margin for side in sides)
        assert all(0 <= extra < 2**depth for extra in (inside.shape[2] - 22, inside.shape[3] - 35))
        assert torch.allclose(network(images), inside[..., :22, :35], atol=1e-6)
