"""The image architectures by name, and the options that all of them have."""

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
    """A k-nearest-neighbors model of `stored` descriptors of dimension `size`.

    Descriptors are pixels, or the spatially averaged features of the network that `described_by`,
    the arguments of its `build`, describes.
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
FLAT = ("linear", "perceptron", "adaline", "knn", "mlp")  # without convolutions
MIN_IMAGE_SIZE = 28  # pixels, for the others


def options(arch: str) -> list[str]:
    """Return the names of an architecture's options."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    own = list(inspect.signature(ARCHITECTURES[arch]).parameters)[4:]
    return [*own, "activation", "init", "unit_length"]


def build(arch: str, num_labels: int, image_size: int, **settings: Any) -> Network:
    """Build an untrained network.

    `settings` are the keyword arguments of its family, and for all: `activation`, `init` and
    `unit_length` (normalize the outputs, for descriptors). All are JSON-serializable; None means
    the architecture's default.
    """
    possible = ["channels", *options(arch)]
    chosen = {name: value for name, value in settings.items() if value is not None}
    if unknown := [name for name in chosen if name not in possible]:
        raise DlkitError(f"{arch} has no option {unknown[0]}; choose from {', '.join(possible)}")
    if "norm" in chosen and chosen["norm"] not in (norms := norm_names(arch)):
        raise DlkitError(f"{arch} has no norm {chosen['norm']!r}; choose from {', '.join(norms)}")
    if arch not in FLAT and image_size < MIN_IMAGE_SIZE:
        raise DlkitError(
            f"image size {image_size}: too small for {arch}; give {MIN_IMAGE_SIZE} or more"
        )
    activation, init = chosen.pop("activation", "auto"), chosen.pop("init", "auto")
    unit_length = chosen.pop("unit_length", False)
    network = ARCHITECTURES[arch](arch, num_labels, image_size, **chosen)
    activate(network, arch, activation)
    initialize(network, init)
    if unit_length:
        network.head.add_module("unit", UnitLength())
    return network


def norm_names(arch: str) -> list[str]:
    """Return the normalization layers an architecture can have."""
    return list(NORMS) if arch == "mlp" else ["none", "batch"]
