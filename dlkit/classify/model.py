"""The image architectures by name, and the options that all of them have."""

from typing import Any

from torch import nn

from dlkit.classify.models import (
    airbench,
    alexnet,
    densenet,
    encoder,
    flat,
    inception,
    lenet,
    mobilenet,
    nin,
    resnet,
    vgg,
)
from dlkit.classify.models.activations_and_init import UnitLength, activate, initialize
from dlkit.classify.models.knn import Neighbors
from dlkit.classify.models.network import Architecture, Network
from dlkit.core.errors import DlkitError
from dlkit.core.store import schema


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


ARCHITECTURES: dict[str, Architecture] = {
    **flat.ARCHITECTURES,
    "knn": Architecture(knn, flat=True),
    **lenet.ARCHITECTURES,
    **alexnet.ARCHITECTURES,
    **vgg.ARCHITECTURES,
    **nin.ARCHITECTURES,
    **inception.ARCHITECTURES,
    **resnet.ARCHITECTURES,
    **densenet.ARCHITECTURES,
    **mobilenet.ARCHITECTURES,
    **airbench.ARCHITECTURES,
    **encoder.ARCHITECTURES,
}
MIN_IMAGE_SIZE = 28  # pixels, for architectures that are not flat


def options(arch: str) -> list[str]:
    """Return the names of an architecture's options."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return [*ARCHITECTURES[arch].options(), "activation", "init", "unit_length"]


def build(arch: str, num_labels: schema.Count, image_size: schema.Side, **settings: Any) -> Network:
    """Build an untrained network.

    `settings` are the keyword arguments of its family, and for all: `activation`, `init` and
    `unit_length` (normalize the outputs, for descriptors). All are JSON-serializable; None means
    the architecture's default.
    """
    possible = ["channels", *options(arch)]
    chosen = {name: value for name, value in settings.items() if value is not None}
    if unknown := [name for name in chosen if name not in possible]:
        raise DlkitError(f"{arch} has no option {unknown[0]}; choose from {', '.join(possible)}")
    architecture = ARCHITECTURES[arch]
    if "norm" in chosen and chosen["norm"] not in (norms := architecture.norms):
        raise DlkitError(f"{arch} has no norm {chosen['norm']!r}; choose from {', '.join(norms)}")
    if not architecture.flat and image_size < MIN_IMAGE_SIZE:
        raise DlkitError(
            f"image size {image_size}: too small for {arch}; give {MIN_IMAGE_SIZE} or more"
        )
    activation, init = chosen.pop("activation", "auto"), chosen.pop("init", "auto")
    unit_length = chosen.pop("unit_length", False)
    network = schema.call(architecture.build, chosen, arch, num_labels, image_size)
    activate(network, arch, activation)
    initialize(network, init)
    if unit_length:
        network.head.add_module("unit", UnitLength())
    return network
