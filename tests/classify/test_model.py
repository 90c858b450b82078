"""The options of architectures."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from dlkit.classify.config import IMAGES, OWN
from dlkit.classify.model import build, options
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint, weights
from dlkit.core.store.renamed import upgrade_settings
from tests.classify.helpers import FAMILIES, on_meta


@pytest.mark.parametrize("arch", FAMILIES)
def test_settings_and_weights_rebuild_the_network_on_no_device(arch: str) -> None:
    chosen = json.loads(json.dumps({"channels": 1, "init": "auto"}))
    first = build(arch, 3, 28, **chosen).eval()
    second = on_meta(arch, 28, num_labels=3, channels=1)
    second.load_state_dict(first.state_dict(), assign=True)
    images = torch.randn(1, 1, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(second(images), first(images))


def test_descriptors_can_have_length_one() -> None:
    network = build("resnet9", 8, 28, unit_length=True, width_multiplier=0.1).eval()
    lengths = network(torch.randn(2, 3, 28, 28)).norm(dim=1)
    assert lengths.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("arch", "settings", "message"),
    [
        ("lenet5", {}, "unknown architecture 'lenet5'; choose from linear"),
        ("linear", {"dropout": 0.5}, "linear has no option dropout; choose from channels"),
        ("linear", {"activation": "relu"}, "linear has no option activation"),
        ("mlp", {"hidden": "512,x"}, "hidden layers '512,x': not widths; give numbers"),
        ("mlp", {"hidden": "0"}, "hidden layers '0'"),
        ("mlp", {"norm": "group"}, "mlp has no norm 'group'; choose from none, batch, layer"),
        ("vgg16", {"norm": "layer"}, "vgg16 has no norm 'layer'; choose from none, batch"),
        (
            "resnet18",
            {"norm": "batch"},
            "resnet18 has no option norm; choose from channels, width_multiplier",
        ),
        ("mlp", {"activation": "gelu"}, "unknown activation 'gelu'; choose from auto, relu"),
        ("mlp", {"init": "ones"}, "unknown initialization 'ones'; choose from auto, xavier"),
        ("resnet18", {"image_size": 27}, "image size 27: too small for resnet18; give 28 or more"),
    ],
)
def test_unknown_options_are_refused(arch: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DlkitError, match=message):
        build(arch, **{"num_labels": 2, "image_size": 28, **settings})


def test_none_leaves_the_choice_to_the_architecture() -> None:
    network = build("vgg11", 2, 32, dropout=None, activation=None)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert options("resnet18") == [
        "width_multiplier", "drop_path", "dropout", "activation", "init", "unit_length",
    ]  # fmt: skip


@pytest.mark.parametrize("arch", IMAGES)
def test_the_table_of_own_options_agrees_with_the_networks(arch: str) -> None:
    for name in ("neighbors", "hidden", "norm", "width_multiplier", "drop_path"):
        assert (arch in OWN[name]) == (name in options(arch))


def test_settings_of_0_1_are_renamed_also_inside_backbones() -> None:
    old, new = {"num_labels": 2, "width": 0.5}, {"num_labels": 2, "width_multiplier": 0.5}
    backbone = {"arch": "resnet18", "network": old}
    assert upgrade_settings({"network": {**old, "described_by": old}}, "classify") == {
        "network": {**new, "described_by": new}
    }
    assert upgrade_settings({"width": 8, "backbone": backbone}, "caption") == {
        "width": 8,
        "backbone": {"arch": "resnet18", "network": new},
    }
    bundled = checkpoint.read_header(weights.find("classify", "caltech101"))
    assert bundled.settings["network"]["width_multiplier"] == 0.5
    assert bundled.config["width_multiplier"] == 0.5
