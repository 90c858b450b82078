"""The structure of all image classifiers: features and a head."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

SMALL = 64  # pixels: up to this size, stems have stride 1, as in the papers' CIFAR networks


class WithAuxiliary(NamedTuple):
    """Training output of networks with auxiliary classifiers: logits (B, L) each."""

    logits: Tensor
    auxiliary: list[Tensor]


class Network(nn.Module):
    """An image classifier: `features` from images to maps (B, K, h, w), `head` to logits (B, L).

    For networks on flat pixels (linear, mlp, ...) the map is the image itself.
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:
        """Return logits (B, L) for normalized images (B, channels, H, W)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class AuxiliaryNetwork(Network):
    """A network with auxiliary classifiers on the maps of named layers of `features`."""

    def __init__(
        self, features: nn.Sequential, head: nn.Module, auxiliary: dict[str, nn.Module]
    ) -> None:
        super().__init__(features, head)
        self.auxiliary = nn.ModuleDict(auxiliary)

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:
        if not self.training:
            return super().forward(images)
        x, logits = images, []
        for name, layer in self.features.named_children():
            x = layer(x)
            if name in self.auxiliary:
                logits.append(self.auxiliary[name](x))
        return WithAuxiliary(self.head(x), logits)


@dataclass(frozen=True)
class Architecture:
    """An image architecture.

    `build(arch, num_labels, image_size, channels=3, **options)` returns the untrained network.
    `flat` architectures take images of any size, as vectors of pixels.
    """

    build: Callable[..., Network]
    flat: bool = False
    norms: tuple[str, ...] = ("none", "batch")

    def options(self) -> list[str]:
        """Return the names of the options of `build`."""
        return list(inspect.signature(self.build).parameters)[4:]


class PooledHead(nn.Sequential):
    """Global average pooling, dropout and a linear layer: map (B, K, h, w) to logits (B, L).

    Class activation maps (Zhou et al. 2016) apply the linear layer at every position of the map.
    """

    def __init__(self, inputs: int, num_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, num_labels)


def map_shape(features: nn.Module, channels: int, image_size: int) -> tuple[int, int, int]:
    """Return the shape (K, h, w) of the map of a square image, without computing it."""
    dtype = next((p.dtype for p in features.parameters()), None)
    image = torch.empty(1, channels, image_size, image_size, device="meta", dtype=dtype)
    _, maps, height, width = copy.deepcopy(features).to("meta").eval()(image).shape
    return maps, height, width
