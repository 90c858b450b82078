"""The architectures by name, and what can be chosen in all of them."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from dlkit.classify.models.activations_and_init import UnitLength, activate, initialize
from dlkit.classify.models.alexnet import alexnet
from dlkit.classify.models.densenet import BLOCKS as DENSENETS
from dlkit.classify.models.densenet import densenet
from dlkit.classify.models.encoder import encoder
from dlkit.classify.models.flat import NORMS, linear, mlp
from dlkit.classify.models.inception import googlenet, inception_v3
from dlkit.classify.models.knn import Neighbors
from dlkit.classify.models.lenet import lenet
from dlkit.classify.models.mobilenet import mobilenet_v2, mobilenet_v3
from dlkit.classify.models.network import Network
from dlkit.classify.models.nin import nin
from dlkit.classify.models.resnet import BLOCKS as RESNETS
from dlkit.classify.models.resnet import resnet, resnet9
from dlkit.classify.models.vgg import STAGES as VGGS
from dlkit.classify.models.vgg import vgg
from dlkit.core.errors import DlkitError


def knn(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    neighbors: int = 5,
    stored: int = 1,
    size: int = 1,
    described_by: dict[str, Any] | None = None,
) -> Network:
    """Room for `stored` descriptors of `size` numbers: pixels, or what another network makes.

    `described_by` are the arguments of that network's `build`; its features are averaged over
    places.
    """
    features: nn.Module = nn.Flatten()
    if described_by is not None:
        maps = build(**described_by).features
        features = nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(features, Neighbors(num_labels, neighbors, stored, size))


ARCHITECTURES: dict[str, Callable[..., Network]] = {
    **dict.fromkeys(("linear", "perceptron", "adaline"), linear),
    "knn": knn,
    "mlp": mlp,
    "lenet": lenet,
    "alexnet": alexnet,
    **dict.fromkeys(VGGS, vgg),
    "nin": nin,
    "googlenet": googlenet,
    "inception-v3": inception_v3,
    **dict.fromkeys(RESNETS, resnet),
    "resnet9": resnet9,
    **dict.fromkeys(DENSENETS, densenet),
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3": mobilenet_v3,
    "encoder": encoder,
}
FLAT = ("linear", "perceptron", "adaline", "knn", "mlp")  # these see pixels, not places
SMALLEST = 28  # pixels, for the others


def options(arch: str) -> list[str]:
    """What can be chosen in an architecture, beside its labels and images."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    own = list(inspect.signature(ARCHITECTURES[arch]).parameters)[4:]
    return [*own, "activation", "init", "unit_length"]


def build(arch: str, num_labels: int, image_size: int, **settings: Any) -> Network:
    """The network of that name, untrained.

    `settings` are the family's keyword arguments, and for all: `activation`, `init` and
    `unit_length` (of the outputs, for descriptors). All fit in JSON; None is the architecture's
    own choice.
    """
    possible = ["channels", *options(arch)]
    chosen = {name: value for name, value in settings.items() if value is not None}
    if unknown := [name for name in chosen if name not in possible]:
        raise DlkitError(f"{arch} has no {unknown[0]} to choose: there is {', '.join(possible)}")
    if "norm" in chosen and chosen["norm"] not in (norms := norms_of(arch)):
        raise DlkitError(f"{arch} has no norm {chosen['norm']!r}: there is {', '.join(norms)}")
    if arch not in FLAT and image_size < SMALLEST:
        raise DlkitError(f"{arch} needs images of {SMALLEST} pixels or more, not {image_size}")
    activation, init = chosen.pop("activation", "auto"), chosen.pop("init", "auto")
    unit_length = chosen.pop("unit_length", False)
    network = ARCHITECTURES[arch](arch, num_labels, image_size, **chosen)
    activate(network, arch, activation)
    initialize(network, init)
    if unit_length:
        network.head.add_module("unit", UnitLength())
    return network


def norms_of(arch: str) -> list[str]:
    return list(NORMS) if arch == "mlp" else ["none", "batch"]
