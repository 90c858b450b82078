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
from dlkit.classify.models.fuse import fuse
from dlkit.classify.models.network import Network
from dlkit.core.errors import DlkitError


class Backbone(nn.Module):
    """Maps of features at falling resolution.

    `channels` and `strides` (pixels that one place stands for) are those of each stage's output;
    `preprocessing.normalise` makes the input of images with values from 0 to 255.
    """

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
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

    def forward(self, images: Tensor) -> list[Tensor]:
        """The output (B, K, h, w) of each stage, the finest first, of normalised images."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps

    def fuse(self) -> None:
        """Fold each batch norm into the convolution before it, for inference."""
        self.stages = fuse(self.stages)


def load(name: str) -> tuple[Backbone, dict[str, Any]]:
    """A trained backbone: of a bundled or published classifier, or of a file or URL.

    With it come the settings, which fit in JSON, by which `build` makes an untrained one. Raises
    DlkitError for models without a map, such as those on flat pixels or of texts.
    """
    header, network = read(name)
    if not isinstance(network, Network) or isinstance(network.features, (nn.Identity, nn.Flatten)):
        raise DlkitError(f"{name} ({header.arch}) makes no map of features of an image")
    settings = {
        "arch": header.arch,
        "network": header.settings["network"],
        "preprocessing": header.settings["preprocessing"],
    }
    return Backbone(network, Preprocessing(**settings["preprocessing"])), settings


def build(settings: dict[str, Any]) -> Backbone:
    """The backbone that `settings` describe, untrained."""
    network = model.build(settings["arch"], **settings["network"])
    return Backbone(network, Preprocessing(**settings["preprocessing"]))
