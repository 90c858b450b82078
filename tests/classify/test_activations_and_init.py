"""Activations and initialization."""

import pytest
import torch
from torch import nn

from dlkit.classify.model import build
from dlkit.classify.models.activations_and_init import ACTIVATIONS, INITS
from dlkit.classify.models.lenet import ScaledTanh


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("arch", ["mlp", "lenet", "resnet18"])
def test_activations_replace_relu(arch: str, activation: str) -> None:
    network = build(arch, 2, 28, channels=1, activation=activation)
    kinds = {type(module) for module in network.modules()}
    assert type(ACTIVATIONS[activation]()) in kinds
    assert ScaledTanh not in kinds
    assert activation == "relu" or nn.ReLU not in kinds
    output = network(torch.randn(2, 1, 28, 28))
    assert output.isfinite().all()


@pytest.mark.parametrize("init", INITS)
def test_initializations(init: str) -> None:
    torch.manual_seed(0)
    network = build("lenet", 10, 32, channels=1, init=init)
    fan_in, fan_out = 120, 84
    expected = {
        "xavier": (2 / (fan_in + fan_out)) ** 0.5,
        "he": (2 / fan_in) ** 0.5,
        "normal": 0.01,
        "zeros": 0,
    }[init]
    layer = network.head.get_submodule("f6")
    assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)  # type: ignore[operator]
    assert not layer.bias.any()  # type: ignore[operator]
    weights = network.features.get_submodule("c3").weight
    assert weights.any() == (init != "zeros")  # type: ignore[operator]
