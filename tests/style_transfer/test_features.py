"""Feature networks."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint, weights
from dlkit.core.store.checkpoint import Header
from dlkit.style_transfer.models.features import (
    STAGES,
    WIDTHS,
    FeatureNetwork,
    load_features,
    photo_like_noise,
)
from tests.style_transfer.helpers import CPU, picture


def test_maps_are_those_of_torchvisions_vgg(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = make_layers(cfgs["D"])  # VGG-16
    names = {f"features.{k}": v for k, v in theirs.state_dict().items()}
    torch.save(names, tmp_path / "vgg.pth")
    own = load_features(str(tmp_path / "vgg.pth"), CPU, pooling="max")
    image = picture(1)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        for name, layers in (("relu2_2", 9), ("relu4_1", 19)):
            expected = theirs[:layers]((image - mean) / std)
            same_up_to_scales(own(image, [name])[name], expected)
        caffe = load_features(str(tmp_path / "vgg.pth"), CPU, pooling="max", caffe=True)
        x = 255 * image - torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
        same_up_to_scales(caffe(image, ["relu1_1"])["relu1_1"], theirs[:2](x.flip(1)))


def same_up_to_scales(own: Tensor, expected: Tensor) -> None:
    """Each map has a scale of its own, by which its mean became 1."""
    squares = expected.square().sum((0, 2, 3))
    scale = (own * expected).sum((0, 2, 3)) / squares.clamp(min=1e-12)
    torch.testing.assert_close(own, expected * scale[:, None, None], rtol=1e-3, atol=1e-3)
    assert (scale > 0).any()


def test_normalized_maps_have_a_mean_of_1(network: FeatureNetwork) -> None:
    images = photo_like_noise(2, 64)
    copied = FeatureNetwork(**network.settings)
    with torch.no_grad():
        for _, convolution in copied.convolutions():
            convolution.bias.fill_(0.1)  # type: ignore[union-attr]
    before = copied(images, ["relu3_1"])["relu3_1"]
    copied.normalize(images)
    after = copied(images, ["relu1_2", "relu3_1", "relu5_1"])
    means = after["relu1_2"].mean((0, 2, 3))
    assert float(means.max()) == pytest.approx(1, abs=1e-3)
    # What was seldom active stays below 1; the others are at 1, and what they show is the same.
    assert (after["relu5_1"].mean((0, 2, 3)) < 1.001).all()
    normal = [m[0] / m[0].norm(dim=(1, 2), keepdim=True) for m in (before, after["relu3_1"])]
    torch.testing.assert_close(*normal, rtol=1e-3, atol=1e-4, equal_nan=True)


def test_nothing_beyond_the_last_layer_is_computed(network: FeatureNetwork) -> None:
    seen = []
    hooks = [
        step.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, step in network.steps.items()
    ]
    network(picture(0), ["relu1_1", "relu2_1"])
    for hook in hooks:
        hook.remove()
    assert seen[-1] == "relu2_1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar10", "not a VGG"),
        ("random:x", "the seed is not a number"),
        ("nothing.pth", "no such file"),
        ("nothing", "unknown model"),
    ],
)
def test_other_models_are_refused_as_feature_networks(name: str, said: str) -> None:
    if name == "cifar10":
        name = str(weights.folder("classify") / "cifar10.safetensors")
    with pytest.raises(DlkitError, match=said):
        load_features(name, CPU)


def test_layers_and_preprocessings_it_does_not_have_are_refused(network: FeatureNetwork) -> None:
    with pytest.raises(DlkitError, match="unknown layer 'relu9_1'; choose from conv1_1"):
        network(picture(0), ["relu9_1"])
    with pytest.raises(DlkitError, match="has its own"):
        load_features("random:0", CPU, caffe=True)


def test_a_saved_network_comes_back(network: FeatureNetwork, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    header = Header("style-transfer", "features", network.settings, [])
    checkpoint.save(path, network.state_dict(), header)
    again = load_features(str(path), CPU, pooling="max")
    assert again.settings["pooling"] == "max"
    image = picture(3)
    torch.testing.assert_close(again(image, ["relu1_2"]), network(image, ["relu1_2"]))


def test_vgg19_has_the_papers_layers() -> None:
    with torch.device("meta"):
        layers = FeatureNetwork(STAGES[1], WIDTHS).layers
    assert [name for name in layers if name.startswith("relu")][-4:] == [
        "relu5_1", "relu5_2", "relu5_3", "relu5_4",
    ]  # fmt: skip
    assert len(layers) == 2 * 16
