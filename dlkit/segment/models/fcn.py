"""Fully convolutional networks: FCN-32s, -16s and -8s (Shelhamer et al. 2016).

Shapes: B images, C classes, H x W pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.backbones import Backbone
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter, make_backbone, upsampled


class Upsampling(nn.ConvTranspose2d):
    """Transposed convolution to `factor` (even) times the resolution, which starts as bilinear."""

    def __init__(self, classes: int, factor: int) -> None:
        super().__init__(classes, classes, 2 * factor, factor, factor // 2, bias=False)
        places = (torch.arange(2 * factor) + 0.5) / factor - 1
        filters = torch.outer(1 - places.abs(), 1 - places.abs())
        with torch.no_grad():
            self.weight.zero_()
            for label in range(classes):
                self.weight[label, label] = filters

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps (B, C, factor * h, factor * w) of maps (B, C, h, w)."""
        # Without the repeated border the outermost pixels would fade toward 0.
        spread = super().forward(F.pad(maps, (1, 1, 1, 1), mode="replicate"), output_size)
        factor = int(self.stride[0])
        return spread[..., factor:-factor, factor:-factor]


class FCN(Segmenter):
    """A classifier scored at every place, and upsampled; skips add scores of finer maps.

    `finest` is the stride, in pixels, at which the last scores are added: 32, 16 or 8. As in the
    paper (section 4.3), scores start at 0, so that 16s starts as the 32s whose weights it takes
    over, and 8s as the 16s; doublings are learned, and the last upsampling stays bilinear. The
    skips are a VGG's pools, or the last maps at their stride of other backbones.
    """

    def __init__(
        self,
        classes: int,
        backbone: dict[str, Any] | None,
        width: float | None,
        finest: int,
    ) -> None:
        super().__init__(make_backbone(backbone, width))
        strides = [stride for stride in (32, 16, 8) if stride >= finest]
        if self.stride != 32 or not set(strides) <= set(self.backbone.strides):
            raise DlkitError(
                f"this backbone has maps at strides {self.backbone.strides}, and a FCN needs"
                f" {strides}, the coarsest last: take another, such as caltech101"
            )
        channels = {32: self.backbone.channels[-1]}
        for stride in strides[1:]:
            index = self.backbone.strides.index(stride)
            channels[stride] = self.backbone.channels[
                index - starts_with_pool(self.backbone, index)
            ]
        self.scores = nn.ModuleDict(
            {str(stride): nn.Conv2d(channels[stride], classes, 1) for stride in strides}
        )
        for score in self.scores.values():
            nn.init.zeros_(score.weight)  # type: ignore[arg-type]
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]
        self.doublings = nn.ModuleDict(
            {str(stride): Upsampling(classes, 2) for stride in strides[1:]}
        )

    def logits(self, images: Tensor) -> Tensor:
        maps = self.maps(images)
        logits: Tensor = self.scores["32"](maps[32])
        for stride, doubling in self.doublings.items():
            skip = self.scores[stride](maps[int(stride)])
            logits = same_size(doubling(logits), skip) + skip
        return upsampled(logits, images)

    def maps(self, images: Tensor) -> dict[int, Tensor]:
        """The map to score at each stride."""
        maps, x = {}, images
        for index, stride in enumerate(self.backbone.strides):
            layers = list(self.backbone.stages[index].children())
            skip = 1 if starts_with_pool(self.backbone, index) else len(layers)
            for layer in layers[:skip]:
                x = layer(x)
            maps[stride] = x
            for layer in layers[skip:]:
                x = layer(x)
        maps[self.stride] = x
        return maps


def starts_with_pool(backbone: Backbone, stage: int) -> bool:
    return isinstance(next(backbone.stages[stage].children()), nn.MaxPool2d)


def same_size(maps: Tensor, like: Tensor) -> Tensor:
    """The maps, resized where a backbone without padding made them smaller."""
    return maps if maps.shape[-2:] == like.shape[-2:] else upsampled(maps, like)


def fcn32s(classes: int, backbone: dict[str, Any] | None = None, width: float | None = None) -> FCN:
    return FCN(classes, backbone, width, 32)


def fcn16s(classes: int, backbone: dict[str, Any] | None = None, width: float | None = None) -> FCN:
    return FCN(classes, backbone, width, 16)


def fcn8s(classes: int, backbone: dict[str, Any] | None = None, width: float | None = None) -> FCN:
    return FCN(classes, backbone, width, 8)
