"""Classification networks as the first part of other tasks' networks.

`load("caltech101")` is a trained one, `build(settings)` an untrained one of the same form, for a
checkpoint that holds the weights itself.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.classify import model
from dlkit.classify.data import Preprocessing
from dlkit.classify.infer import read
from dlkit.classify.models.dense import dense
from dlkit.classify.models.fuse import fuse
from dlkit.classify.models.network import Network
from dlkit.core.errors import DlkitError


class Backbone(nn.Module):
    """Maps of features at falling resolution.

    `channels` and `strides` (pixels that one place stands for) are those of each stage's output;
    `preprocessing.normalize` makes the input of images with values from 0 to 255. With `head` the
    last map has gone through the fully connected layers but the last, turned into convolutions.
    """

    def __init__(self, network: Network, preprocessing: Preprocessing, head: bool = False) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        self.strides: list[int] = []
        side = 512  # enough for every stage to have a map
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
        """Add VGG's fc6 and fc7 and their like, which networks that pool their map do not have.

        They are padded, so that the map keeps its size (Shelhamer et al. 2016, section 4.1).
        """
        _, head = dense(network, self.preprocessing.image_size).children()
        layers = [layer for layer in head.children() if not isinstance(layer, nn.AvgPool2d)]
        while layers and not isinstance(layers.pop(), nn.Conv2d):
            pass  # the last convolution tells classes, and what follows it belongs to it
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
        """The output (B, K, h, w) of each stage, the finest first, of normalized images."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps

    def fuse(self) -> None:
        """Fold each batch norm into the convolution before it, for inference."""
        self.stages = fuse(self.stages)


def load(name: str, head: bool = False) -> tuple[Backbone, dict[str, Any]]:
    """A trained backbone: of a bundled or published classifier, or of a file or URL.

    With it come the settings, which fit in JSON, by which `build` makes an untrained one. `head`
    is as in `Backbone`. Raises DlkitError for models without a map, such as those on flat pixels
    or of texts.
    """
    header, network = read(name)
    if not isinstance(network, Network) or isinstance(network.features, (nn.Identity, nn.Flatten)):
        raise DlkitError(f"{name} ({header.arch}) makes no map of features of an image")
    settings = {
        "arch": header.arch,
        "network": header.settings["network"],
        "preprocessing": header.settings["preprocessing"],
    }
    if head:
        settings["head"] = True
    return Backbone(network, Preprocessing(**settings["preprocessing"]), head), settings


def build(settings: dict[str, Any]) -> Backbone:
    """The backbone that `settings` describe, untrained."""
    network = model.build(settings["arch"], **settings["network"])
    inputs = Preprocessing(**settings["preprocessing"])
    return Backbone(network, inputs, settings.get("head", False))
