"""Fully convolutional networks against crops."""

import pytest
import torch
from torch import nn

from dlkit.classify.model import build
from dlkit.classify.models.dense import dense
from dlkit.core.errors import DlkitError
from tests.classify.helpers import on_meta


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_dense_lenet_equals_the_crops_at_strides_of_4(offset: int) -> None:
    network = build("lenet", 10, 32, channels=1).eval()
    image = torch.randn(1, 1, 32 + 4 * 5 + 1, 32 + 4 * 6)
    with torch.inference_mode():
        logits = dense(network, 32)(image)
        assert logits.shape == (1, 10, 6, 7)
        y, x = 4 * offset, 4 * offset
        crop = network(image[:, :, y : y + 32, x : x + 32])
    torch.testing.assert_close(logits[:, :, offset, offset], crop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "image_size", "more"),
    [
        ("lenet", 28, 32),
        ("alexnet", 32, 64),
        ("vgg11", 40, 64),
        ("nin", 32, 64),
        ("googlenet", 32, 64),
        ("inception-v3", 32, 64),
        ("resnet18", 32, 64),
        ("preact-resnet", 32, 64),
        ("resnet9", 32, 64),
        ("densenet121", 32, 64),
        ("mobilenet-v2", 32, 64),
        ("mobilenet-v3", 32, 64),
        ("airbench", 32, 64),
    ],
)
def test_a_dense_network_equals_the_network_at_its_own_size(
    arch: str, image_size: int, more: int
) -> None:
    torch.manual_seed(0)
    network = build(arch, 3, image_size, channels=1).eval()
    converted = dense(network, image_size)
    image = torch.randn(1, 1, image_size, image_size)
    with torch.inference_mode():
        torch.testing.assert_close(converted(image)[:, :, 0, 0], network(image))
        batch, labels, height, width = converted(torch.randn(1, 1, more, more + 16)).shape
    assert (batch, labels) == (1, 3)
    assert height > 1
    assert width > height


@pytest.mark.parametrize("image_size", [64 + 32, 224, 256])
def test_dense_vgg_holds_the_adaptive_pool_in_its_convolution(image_size: int) -> None:
    """With 256 pixels its 7x7 places are means of overlapping 2x2; with 96 one place is many."""
    torch.manual_seed(0)
    network = on_meta("vgg11", image_size)
    head = network.head.get_submodule("classifier")
    head[0] = nn.Linear(512 * 49, 8)  # type: ignore[operator]
    head[3], head[6] = nn.Linear(8, 8), nn.Linear(8, 3)  # type: ignore[operator]
    side = image_size // 32
    network.features = nn.Sequential(nn.Conv2d(1, 512, 32, 32))
    image = torch.randn(1, 1, image_size, image_size)
    with torch.inference_mode():
        converted = dense(network, image_size)
        logits = converted(image)
        assert logits.shape == (1, 3, 1, 1)
        torch.testing.assert_close(logits[:, :, 0, 0], network(image))
        bigger = torch.randn(1, 1, 32 * (side + 1), 32 * side)
        crop = network(bigger[:, :, 32:])
        torch.testing.assert_close(converted(bigger)[:, :, 1, 0], crop)


def test_flat_networks_have_no_class_maps() -> None:
    with pytest.raises(DlkitError, match="flat pixels"):
        dense(build("mlp", 2, 28), 28)
