"""Fully convolutional networks: FCN-32s, -16s and -8s (Shelhamer et al. 2016).

Shapes: B images, C classes, H x W pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter, make_backbone, resize_like


class Upsampling(nn.ConvTranspose2d):
    """Transposed convolution by an even `factor`, initialized to bilinear interpolation."""

    def __init__(self, num_labels: int, factor: int) -> None:
        super().__init__(num_labels, num_labels, 2 * factor, factor, factor // 2, bias=False)
        offsets = (torch.arange(2 * factor) + 0.5) / factor - 1
        bilinear = torch.outer(1 - offsets.abs(), 1 - offsets.abs())
        with torch.no_grad():
            self.weight.zero_()
            for label in range(num_labels):
                self.weight[label, label] = bilinear

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample maps (B, C, h, w) to (B, C, factor * h, factor * w)."""
        # Without the replicated border the outermost pixels would fade toward 0.
        upsampled = super().forward(F.pad(maps, (1, 1, 1, 1), mode="replicate"), output_size)
        factor = int(self.stride[0])
        return upsampled[..., factor:-factor, factor:-factor]


class FCN(Segmenter):
    """A classifier applied densely and upsampled, with skip connections from finer maps.

    `finest` is the smallest stride, in pixels, of the scored maps: 32, 16 or 8. As in the paper
    (section 4.3), scores start at 0, so that 16s starts as the 32s whose weights it takes over, and
    8s as the 16s; the factor-2 upsamplings are learned, and the last upsampling stays bilinear.
    Skips come from a VGG's pools, or from the last maps of each stride of other backbones.
    """

    def __init__(
        self,
        num_labels: int,
        backbone: backbones.BackboneSettings | None = None,
        width_multiplier: float | None = None,
        *,
        finest: int,
    ) -> None:
        super().__init__(make_backbone(backbone, width_multiplier, head=True))
        strides = [stride for stride in (32, 16, 8) if stride >= finest]
        if self.stride != 32 or not set(strides) <= set(self.backbone.strides):
            raise DlkitError(
                f"--backbone: its maps have strides {self.backbone.strides}, and an FCN needs"
                f" {strides}, the coarsest last; use another backbone, such as caltech101"
            )
        channels = {32: self.backbone.channels[-1]}
        for stride in strides[1:]:
            index = self.backbone.strides.index(stride)
            channels[stride] = self.backbone.channels[
                index - starts_with_pool(self.backbone, index)
            ]
        self.scores = nn.ModuleDict(
            {str(stride): nn.Conv2d(channels[stride], num_labels, 1) for stride in strides}
        )
        for score in self.scores.values():
            nn.init.zeros_(score.weight)  # type: ignore[arg-type]
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]
        self.doublings = nn.ModuleDict(
            {str(stride): Upsampling(num_labels, 2) for stride in strides[1:]}
        )

    def logits(self, images: Tensor) -> Tensor:
        maps = self.maps(images)
        logits: Tensor = self.scores["32"](maps[32])
        for stride, doubling in self.doublings.items():
            skip = self.scores[stride](maps[int(stride)])
            logits = match_size(doubling(logits), skip) + skip
        return resize_like(logits, images)

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


def starts_with_pool(backbone: backbones.Backbone, stage: int) -> bool:
    return isinstance(next(backbone.stages[stage].children()), nn.MaxPool2d)


def match_size(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps to the size of `like`, from which a backbone without padding may deviate."""
    return maps if maps.shape[-2:] == like.shape[-2:] else resize_like(maps, like)
