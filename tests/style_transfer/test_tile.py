"""Computation in tiles."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from dlkit.style_transfer.model import build
from dlkit.style_transfer.models.features import load_features
from dlkit.style_transfer.tile import TiledFeatures, paint_in_tiles
from tests.style_transfer.helpers import CPU, TINY, smooth


@pytest.mark.parametrize("size", [(100, 130), (47, 96), (33, 100), (20, 30)])
def test_maps_and_gradients_in_tiles_are_those_of_the_whole(size: tuple[int, int]) -> None:
    whole = load_features("random:1", CPU)
    tiled = TiledFeatures(whole, 40)
    picture = smooth(*size)[None].requires_grad_()
    layers = ["relu1_1", "relu4_2", "relu5_1"]
    expected, found = whole(picture, layers), tiled(picture, layers)
    for name in layers:
        torch.testing.assert_close(found[name], expected[name], atol=1e-3, rtol=1e-4)
    gradients = [
        torch.autograd.grad(sum(m.square().mean() for m in maps.values()), picture)[0]
        for maps in (expected, found)
    ]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(tiled(picture, layers)["relu4_2"], found["relu4_2"])


@pytest.mark.parametrize(
    ("arch", "settings"),
    [("fast", {"styles": 1, "width": 4}), ("adain", {"features": TINY})],
)
@torch.inference_mode()
def test_paintings_in_tiles_show_no_seams(arch: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build(arch, **settings).eval()
    photo = smooth(200, 700)
    code = network.code(smooth(64, 64, 1)[None] if network.any_style else 0)
    whole = network.paint(photo[None], code)[0]
    tiled = paint_in_tiles(network, photo, code, 1.0, 512)
    # With the statistics of the whole, which is small enough here, a tile is a part of it.
    torch.testing.assert_close(tiled, whole, atol=0.01, rtol=0)
    # With its own, a tile would be of another brightness than the next.
    apart = network.paint(photo[None, :, :, :350], code)[0] - whole[:, :, :350]
    assert apart.abs().max() > 0.03
    # And afterwards the network is as before.
    assert torch.equal(network.paint(photo[None], code)[0], whole)


@torch.inference_mode()
def test_statistics_of_a_smaller_photograph_leave_no_steps_at_tiles_borders() -> None:
    torch.manual_seed(0)
    network = build("fast", styles=1, width=4).eval()
    photo = F.interpolate(smooth(60, 400)[None], scale_factor=4, mode="bilinear")[0]
    tiled = paint_in_tiles(network, photo, network.code(0), 1.0, 512)
    columns = tiled.diff(dim=2).abs().mean(dim=(0, 1))
    borders = range(384 - 4, len(columns), 384)
    for border in borders:
        near = columns[border : border + 140].mean()
        assert near < 1.5 * columns.mean()
