"""Classification networks as backbones of other tasks' networks.

`load("caltech101")` returns a trained backbone; `build(settings)` an untrained one of the same
architecture, for checkpoints that contain its weights.
"""

import copy
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from dlkit.classify import model
from dlkit.classify.data import (
    Preprocessing,
    PreprocessingSettings,
    image_classifier_settings,
)
from dlkit.classify.infer import load_network
from dlkit.classify.models.dense import dense
from dlkit.classify.models.fuse import fuse
from dlkit.classify.models.network import Network
from dlkit.core.errors import DlkitError
from dlkit.core.store import schema

__all__ = ["Backbone", "BackboneSettings", "Preprocessing", "build", "load"]


class BackboneSettings(TypedDict):
    """The settings of a backbone, in the header of the network that contains it."""

    arch: str
    network: dict[str, Any]  # the keyword arguments of the classifier
    preprocessing: PreprocessingSettings
    head: NotRequired[bool]  # as in `Backbone`


class Backbone(nn.Module):
    """Feature maps at decreasing resolution.

    `channels` and `strides` (in pixels) describe the output of each stage. Normalize images with
    values from 0 to 255 by `preprocessing.normalize`. With `head`, the last stage includes the
    fully connected layers but the last, as convolutions.
    """

    def __init__(self, network: Network, preprocessing: Preprocessing, head: bool = False) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        self.strides: list[int] = []
        side = 512  # pixels, enough for a map at every stage
        x = torch.empty(1, preprocessing.channels, side, side, device="meta")
        for layer in network.features.children():
            before = x.shape[-1]
            x = copy.deepcopy(layer).to("meta").eval()(x)
            if not self.stages or x.shape[-1] < before:
                self.stages.append(nn.Sequential())
                self.channels.append(0)
                self.strides.append(0)
            self.stages[-1].append(layer)  # type: ignore[operator]
            self.channels[-1], self.strides[-1] = x.shape[1], round(side / x.shape[-1])
        if head:
            self.append_head(network)

    def append_head(self, network: Network) -> None:
        """Append the fully connected layers but the last, such as VGG's fc6 and fc7.

        They are padded, so that the map keeps its size (Shelhamer et al. 2016, section 4.1).
        Networks with global average pooling have no such layers.
        """
        _, head = dense(network, self.preprocessing.image_size).children()
        layers = [layer for layer in head.children() if not isinstance(layer, nn.AvgPool2d)]
        while layers and not isinstance(layers.pop(), nn.Conv2d):
            pass  # drop the classifier: the last convolution and the layers after it
        if not any(isinstance(layer, nn.Conv2d) for layer in layers):
            return
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                rows, columns = (side - 1 for side in layer.kernel_size)
                sides = (columns - columns // 2, columns // 2, rows - rows // 2, rows // 2)
                self.stages[-1].append(nn.ZeroPad2d(sides))  # type: ignore[operator]
                self.channels[-1] = layer.out_channels
            self.stages[-1].append(layer)  # type: ignore[operator]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the map (B, K, h, w) of each stage, finest first, for normalized images."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps

    def fuse(self) -> None:
        """Fold each batch norm into the preceding convolution, for inference."""
        self.stages = fuse(self.stages)


def load(name: str, head: bool = False) -> tuple[Backbone, BackboneSettings]:
    """Load a trained backbone from a classifier: a name, file or URL.

    Also returns the settings for `build`, which are JSON-serializable. `head` is as in `Backbone`.
    Raises DlkitError for models without feature maps, such as linear and text models.
    """
    # Initialized first: the networks of a training are built next, from the same random numbers.
    header, network = load_network(name, initialize=True)
    if not isinstance(network, Network) or isinstance(network.features, (nn.Identity, nn.Flatten)):
        raise DlkitError(f"{header.arch} has no feature maps; choose a convolutional network", name)
    described = image_classifier_settings(header)
    settings: BackboneSettings = {
        "arch": header.arch,
        "network": described["network"],
        "preprocessing": described["preprocessing"],
    }
    if head:
        settings["head"] = True
    return Backbone(network, Preprocessing(**settings["preprocessing"]), head), settings


def build(settings: BackboneSettings) -> Backbone:
    """Build the untrained backbone described by `settings`."""
    network = schema.call(model.build, settings["network"], settings["arch"])
    inputs = Preprocessing(**settings["preprocessing"])
    return Backbone(network, inputs, settings.get("head", False))
