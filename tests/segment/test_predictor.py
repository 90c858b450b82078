"""Tiles, sizes and views give what the whole image gives."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.failures import Failure
from dlkit.core.vision.tile import in_tiles, spans, tile_weights
from dlkit.segment.draw import palette
from dlkit.segment.infer import load
from dlkit.segment.models.segmenter import Segmenter
from dlkit.segment.predictor import InferOptions, SemanticPredictor, predict, upsample_strips
from tests.segment.helpers import (
    truth_of,
)


@pytest.mark.parametrize("stride", [1, 8, 32])
@pytest.mark.parametrize("side", [30, 64, 65, 127, 500, 1001])
@pytest.mark.parametrize("tile", [64, 100, 256])
def test_tiles_cover_a_side_and_count_as_one(side: int, tile: int, stride: int) -> None:
    found = spans(side, tile, stride)
    assert found[0][0] == 0
    assert found[-1][1] == side
    assert all(start % stride == 0 for start, _ in found)
    assert len({stop - start for start, stop in found[:-1]}) <= 1
    total = torch.zeros(side)
    for (start, stop), share in zip(found, tile_weights(found, side), strict=True):
        assert (share >= 0).all()
        total[start:stop] += share
    torch.testing.assert_close(total, torch.ones(side))
    for (_, end), (begin, _) in zip(found, found[1:], strict=False):
        assert end - begin >= stride


class Deep(Segmenter):
    """Sees 3 pixels in each direction at half the resolution: 7 in the image, and so 8."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 8, 2, 2)
        self.middle = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)

    def logits(self, images: Tensor) -> Tensor:
        out: Tensor = self.up(self.middle(self.down(images)).relu())
        return out


def predictor_of(network: Segmenter, count: int) -> SemanticPredictor:
    names = [f"class {k}" for k in range(count)]
    return SemanticPredictor(network.eval(), names, None, torch.device("cpu"), palette(names))


@pytest.mark.parametrize("shape", [(150, 211), (64, 300), (40, 50), (129, 128)])
def test_tiles_give_what_the_whole_image_gives(shape: tuple[int, int]) -> None:
    """With tiles of 64 a quarter of the overlap is 4 pixels; with 128 it is 8, all that is seen."""
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    predictor = predictor_of(Deep(), 4)
    whole = predictor.probabilities(pixels[None], tta=False)[0]
    work = lambda part: predictor.probabilities(part, tta=False)  # noqa: E731
    torch.testing.assert_close(torch.cat(list(in_tiles(work, pixels, 128, 2)), dim=1), whole)
    small = torch.cat(list(in_tiles(work, pixels, 64, 2)), dim=1)
    inside = torch.ones(shape, dtype=torch.bool)
    for axis, side in enumerate(shape):
        found = spans(side, 64, 2)
        for (_, end), (begin, _) in zip(found, found[1:], strict=False):
            inside.index_fill_(axis, torch.arange(begin, end), False)
    assert inside.float().mean() > 0.2
    torch.testing.assert_close(small[:, inside], whole[:, inside])
    assert (small - whole).abs().max() < 0.2


@pytest.mark.parametrize("size", [(40, 56), (41, 55), (90, 200), (13, 17), (400, 9)])
def test_enlarged_is_bilinear_interpolation(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 40, 56)
    expected = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
    with mock.patch("dlkit.segment.predictor.STRIP_PIXELS", 1000):
        strips = list(upsample_strips(scores, *size))
    torch.testing.assert_close(torch.cat(strips, dim=1), expected, atol=1e-5, rtol=1e-5)
    assert size == (40, 56) or len(strips) > 1 or size[0] * size[1] < 1000


def test_tta_is_the_mean_of_its_views() -> None:
    """Scales 0.75, 1, 1.25, each mirrored too: the average that is made here by hand."""
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    network = Deep().eval()
    inputs = network.normalize(pixels)
    views = []
    with torch.inference_mode():
        for size in [(24, 36), (32, 48), (40, 60)]:
            seen = F.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
            for logits in (network(seen), network(seen.flip(-1)).flip(-1)):
                back = F.interpolate(logits, size=(32, 48), mode="bilinear", align_corners=False)
                views.append(back.softmax(dim=1))
    expected = torch.stack(views).mean(dim=0)
    found = predictor_of(network, 4).probabilities(pixels, tta=True)
    torch.testing.assert_close(found, expected)
    mirrored = predictor_of(network, 4).probabilities(pixels.flip(-1), tta=True)
    torch.testing.assert_close(mirrored, found.flip(-1))


def test_python_gets_maps_and_failures(segment: Any) -> None:
    predictor = load("colors.safetensors", "cpu", "fp32")
    assert isinstance(predictor, SemanticPredictor)
    found = list(predict(predictor, ["in/0.png", "no"], InferOptions()))
    assert not isinstance(found[0], Failure)
    assert (found[0][2].labels == truth_of(0)).all()
    assert isinstance(found[1], Failure)
    assert vars(found[1]) == {"path": "no", "error": "no such file"}
