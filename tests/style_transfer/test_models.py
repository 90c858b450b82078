"""Painters: networks that transfer a style in one pass."""

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.style_transfer.loss import (
    statistics_loss,
)
from dlkit.style_transfer.model import build
from dlkit.style_transfer.models.adain import AdaIN
from dlkit.style_transfer.models.fast import Fast
from dlkit.style_transfer.models.features import (
    FeatureNetwork,
)
from dlkit.style_transfer.models.statistics import mean_and_std
from tests.style_transfer.helpers import picture


def test_adain_gives_maps_the_styles_mean_and_deviation(network: FeatureNetwork) -> None:
    torch.manual_seed(0)
    painter = AdaIN(network.settings)
    style = picture(2, 48, 48)
    content, wanted = torch.randn(1, 64, 8, 8), painter.maps(style)
    made = painter.blend(content, painter.code(style))
    for own, theirs in zip(mean_and_std(made), mean_and_std(wanted), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-3, atol=5e-3)
    assert float(statistics_loss({"a": made}, {"a": wanted}, {"a": 1.0})) < 1e-4
    assert float(statistics_loss({"a": content}, {"a": wanted}, {"a": 1.0})) > 0.1


@pytest.mark.parametrize("size", [(32, 40), (33, 47), (9, 30)])
def test_painters_keep_the_size(network: FeatureNetwork, size: tuple[int, int]) -> None:
    photos = torch.rand(2, 3, *size)
    fast = build("fast", styles=3, width=4)
    any_style = build("adain", features=network.settings)
    for painter, style in ((fast, 1), (any_style, picture(2))):
        made = painter(photos, style)
        assert made.shape == photos.shape
        assert float(made.detach().min()) >= 0
        assert float(made.detach().max()) <= 1


def test_each_style_has_norms_of_its_own_and_codes_mix() -> None:
    torch.manual_seed(0)
    fast = Fast(styles=2, width=4)
    photos = torch.rand(1, 3, 16, 16)
    assert torch.equal(fast(photos, 0), fast(photos, 1))  # both start alike
    with torch.no_grad():
        fast.get_parameter("up.1.norm.shift")[1] += 1.0
    first, second = fast(photos, 0), fast(photos, 1)
    assert not torch.equal(first, second)
    torch.testing.assert_close(fast(photos, torch.tensor([[1.0, 0.0]])), first)
    between = fast(photos, torch.tensor([[0.5, 0.5]]))
    assert not torch.equal(between, first)
    with pytest.raises(DlkitError, match="no style 3 in a model of 2"):
        fast(photos, 2)


def test_strength_goes_from_the_photograph_to_the_style(network: FeatureNetwork) -> None:
    fast = Fast(styles=1, width=4)
    photos = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(fast(photos, 0, 0.0), photos)
    painter = AdaIN(network.settings)
    style, maps = picture(2), painter.maps(photos)
    torch.testing.assert_close(painter.blend(maps, painter.code(style), 0.0), maps)
    torch.testing.assert_close(painter(photos, style, 0.0), painter.decoder(maps))
    code = painter.code(style)
    torch.testing.assert_close(painter(photos, style), painter.paint(photos, code))


def test_no_architecture_of_that_name() -> None:
    with pytest.raises(DlkitError, match="unknown architecture 'slow'; choose from fast, adain"):
        build("slow")
