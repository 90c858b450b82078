"""What all architectures have in common, and what they refuse."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from dlkit.classify import backbones
from dlkit.classify.backbones import Backbone
from dlkit.classify.data import Preprocessing
from dlkit.classify.model import build as classifier
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.segment.config import Arch
from dlkit.segment.infer import load
from dlkit.segment.model import ARCHITECTURES, build, find, load_backbone
from tests.segment.helpers import PREPROCESSING, RESNET, SEMANTIC, random_norms, vgg


def small(arch: str) -> Any:
    """A narrow network of that architecture, if it can be narrow."""
    torch.manual_seed(1)
    return build(
        arch, 3, width_multiplier=0.05 if "width_multiplier" in find(arch).settings else None
    )


@pytest.mark.parametrize("arch", SEMANTIC)
def test_logits_for_images_of_any_size(arch: str) -> None:
    network = small(arch)
    random_norms(network)
    images = torch.randint(0, 256, (2, 3, 37, 50), dtype=torch.uint8)
    inputs = network.normalize(images)
    logits = network(inputs)
    assert logits.shape == (2, 3, 37, 50)
    logits.square().mean().backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in still if not name.endswith("bias")}  # ReLUs may be off

    network.eval()
    with torch.no_grad():
        before = network(inputs)
        network.prepare(torch.float32)
        assert torch.allclose(network(inputs), before, rtol=1e-3, atol=1e-4)
        assert network(inputs[:1, :, :1, :1]).shape == (1, 3, 1, 1)
        network.prepare(torch.bfloat16)
        rounded = network(inputs)
    assert rounded.dtype == torch.float32
    assert (rounded - before).abs().mean() < 0.1 * before.std()


@pytest.mark.parametrize(
    "arch", ["fcn32s", "fcn16s", "fcn8s", "unet", "dilated", "patch", "shift-and-stitch"]
)
def test_a_trained_backbone_is_taken_over(arch: str) -> None:
    trained, settings = load_backbone(arch, "caltech101")
    network = build(arch, 4, backbone=settings)
    network.backbone.load_state_dict(trained.state_dict())
    assert network.mean == trained.preprocessing.mean
    images = torch.randint(0, 256, (1, 3, 40, 64), dtype=torch.uint8)
    expected = trained.preprocessing.normalize(images)
    assert torch.allclose(network.normalize(images), expected, atol=1e-5)
    with torch.no_grad():
        assert network.eval()(expected).shape == (1, 4, 40, 64)


def test_what_does_not_fit_is_refused() -> None:
    gray = RESNET | {
        "network": RESNET["network"] | {"channels": 1},
        "preprocessing": PREPROCESSING | {"channels": 1, "mean": [0.5], "std": [0.2]},
    }
    fine = RESNET | {"network": RESNET["network"] | {"image_size": 32}}
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("unknown architecture 'fcn'; choose from fcn32s", "fcn", {}),
        ("--depth: not an option of fcn8s", "fcn8s", {"depth": 3}),
        ("takes 1-channel images", "unet", {"backbone": gray}),
        ("and an FCN needs", "fcn32s", {"backbone": fine}),
        ("segnet needs a vgg", "segnet", {"backbone": RESNET}),
        ("dilated needs a resnet or vgg", "dilated", {"backbone": RESNET | {"arch": "resnet9"}}),
        ("unknown context 'huge'", "dilated", {"context": "huge"}),
        ("unknown padding 'full'", "unet", {"padding": "full"}),
        ("a backbone has a fixed width", "fcn8s", {"backbone": RESNET, "width_multiplier": 0.5}),
        ("--depth: not for a unet with a backbone", "unet", {"backbone": RESNET, "depth": 3}),
        ("unknown backbone 'vgg'", "deeplabv3", {"backbone": "vgg"}),
        ("--window 31: smaller", "patch", {"backbone": RESNET, "window": 31}),
        ("--step 5: does not divide", "shift-and-stitch", {"backbone": RESNET, "step": 5}),
    ]
    for error, arch, settings in refused:
        with pytest.raises(DlkitError, match=error):
            build(arch, 3, **settings)
    with pytest.raises(DlkitError, match="choose one of its own backbones"):
        load_backbone("deeplabv3", "caltech101")
    with pytest.raises(DlkitError, match="--batch-size 2"):
        build("lraspp", 3).train()(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("image_size", [96, 128])
def test_fully_connected_layers_as_convolutions(image_size: int) -> None:
    """In the middle of an image of the size it was trained on, VGG says what it says of it."""
    settings = vgg(image_size)
    torch.manual_seed(3)
    network = classifier(settings["arch"], **settings["network"]).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    inputs = Preprocessing(**settings["preprocessing"])
    backbone = Backbone(network, inputs, head=True).eval()
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        fc7 = network.head[:-1](network.features(images))  # type: ignore[index]
        fc7 = network.head[-1][:-1](fc7)  # type: ignore[index]
        maps = backbone(images)[-1]
    side = image_size // 32
    assert maps.shape == (2, backbone.channels[-1], side, side)
    assert fc7.std() > 0.01
    assert torch.allclose(maps[:, :, side // 2, side // 2], fc7, rtol=1e-4, atol=1e-5)


def test_a_head_comes_with_the_settings() -> None:
    plain, whole = vgg(96), vgg(96) | {"head": True}
    assert backbones.build(plain).channels == [3, 6, 13, 26, 26, 26]  # 64 to 512, times 0.05
    assert len(backbones.build(whole).state_dict()) == len(backbones.build(plain).state_dict()) + 4
    pooled = backbones.build(RESNET).state_dict()
    assert backbones.build(RESNET | {"head": True}).state_dict().keys() == pooled.keys()


def test_the_command_line_knows_every_architecture() -> None:
    assert get_args(Arch) == tuple(ARCHITECTURES)


def test_settings_of_0_1_still_build(tmp_path: Path) -> None:
    settings = {"width_multiplier": 0.05, "depth": 1}
    weights = build("unet", 2, **settings).state_dict()
    old = {"width": 0.05, "depth": 1}
    config = {"image_size": None, "scale": 1.5, "from_scratch": False}
    header = Header("segment", "unet", old, ["a", "b"], config, dlkit="0.1.0")
    checkpoint.save(tmp_path / "old.safetensors", weights, header)
    read = checkpoint.read_header(tmp_path / "old.safetensors")
    assert read.settings == settings
    assert read.config == {"image_size": None, "zoom": 1.5, "pretrained_backbone": True}
    assert load(str(tmp_path / "old.safetensors"), "cpu").labels == ["a", "b"]
