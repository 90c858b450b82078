"""AdaIN: style transfer to arbitrary styles (Huang and Belongie 2017).

Shapes: B images, K channels, h x w positions.
"""

from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.style_transfer.models.features import FeatureNetwork, FeatureSettings
from dlkit.style_transfer.models.painter import InstanceNorm, Painter
from dlkit.style_transfer.models.statistics import mean_and_std


def mirror_encoder(encoder: FeatureNetwork) -> nn.Sequential:
    """A decoder that mirrors the encoder, without norms.

    Pools become nearest-neighbor upsampling, padding is by reflection, and outputs are from 0 to 1.
    """
    layers: list[nn.Module] = []
    for step in reversed(list(encoder.steps.values())):
        if isinstance(step, nn.Conv2d):
            layers += [
                nn.Conv2d(
                    step.out_channels, step.in_channels, 3, padding=1, padding_mode="reflect"
                ),
                nn.ReLU(inplace=True),
            ]
        elif not isinstance(step, nn.ReLU):
            layers += [nn.Upsample(scale_factor=2)]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


class AdaINSettings(TypedDict):
    """The settings in the header of an adain: its arguments."""

    features: FeatureSettings
    layer: str


class AdaIN(Painter):
    """A feature network up to `layer` as encoder, AdaIN, and a decoder that mirrors the encoder.

    `features` are the settings of the feature network; its weights belong to this network.
    """

    any_style = True

    def __init__(self, features: FeatureSettings, layer: str = "relu4_1") -> None:
        super().__init__()
        self.layer = layer
        self.encoder = FeatureNetwork(**features).truncate(layer)
        self.stride = self.encoder.stride(layer)
        self.norm = InstanceNorm()
        self.decoder = mirror_encoder(self.encoder)

    def maps(self, images: Tensor) -> Tensor:
        """The encoder's maps (B, K, h, w) of images (B, 3, H, W) from 0 to 1, in fp32."""
        y: Tensor = self.encoder(images, [self.layer])[self.layer].float()
        return y

    def code(self, style: Tensor | int) -> Tensor:
        """Means and deviations (N, 2 K) of the maps of N style images."""
        if isinstance(style, int):
            raise TypeError("the style of adain is an image, not a number")
        return torch.cat(mean_and_std(self.maps(style)), dim=1).flatten(1)

    def blend(self, maps: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        """The decoder's target t of equations 8 and 14."""
        mean, std = code[:, :, None, None].chunk(2, dim=1)
        return maps.lerp(self.norm(maps) * std + mean, strength)

    def paint(self, images: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        height, width = images.shape[-2:]
        sides = (0, -width % self.stride, 0, -height % self.stride)
        maps = self.maps(F.pad(images, sides, mode="replicate"))
        painted: Tensor = self.decoder(self.blend(maps, code, strength))
        return painted.float()[..., :height, :width]
