"""What every image classifier is: features, then a head."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

SMALL = 64  # pixels: up to here the stem keeps the resolution, as in the papers' CIFAR networks


class WithAuxiliary(NamedTuple):
    """What networks with auxiliary classifiers return in training: logits (B, C) each."""

    logits: Tensor
    auxiliary: list[Tensor]


class Network(nn.Module):
    """`features` makes a map (B, K, h, w) of normalized images, `head` logits (B, C) of the map.

    For networks on flat vectors (linear, mlp, ...) the map is the image itself.
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:
        """Logits (B, C) of images (B, channels, H, W)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class AuxiliaryNetwork(Network):
    """Further classifiers, each on the map of one named layer of `features`, help in training."""

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


class PooledHead(nn.Sequential):
    """Global average pooling, dropout and one linear layer: map (B, K, h, w) to logits (B, C).

    Class activation maps (Zhou et al. 2016) are the linear layer at every place of the map.
    """

    def __init__(self, inputs: int, num_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, num_labels)


def map_shape(features: nn.Module, channels: int, image_size: int) -> tuple[int, int, int]:
    """(K, h, w) of the map that `features` makes of a square image; nothing is computed."""
    dtype = next((p.dtype for p in features.parameters()), None)
    image = torch.empty(1, channels, image_size, image_size, device="meta", dtype=dtype)
    _, maps, height, width = copy.deepcopy(features).to("meta").eval()(image).shape
    return maps, height, width
