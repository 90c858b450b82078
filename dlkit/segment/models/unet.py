"""U-Net: a decoder with a skip connection at each resolution (Ronneberger et al. 2015).

Shapes: B images, C classes, H x W pixels.
"""

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.core.config import option_name
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import ConvBlock, Segmenter, make_backbone, resize_like


class UNet(Segmenter):
    """The network of the paper's figure 1, with batch norm after each convolution.

    `depth` is the number of poolings (4 in the paper). `width_multiplier` scales the channels: 64
    in the first level, doubled in each further one. Padding "same" keeps the size; "valid", as in
    the paper, loses 92 pixels at each border at depth 4, which `forward` pads by mirroring.
    """

    def __init__(
        self,
        num_labels: int,
        width_multiplier: float = 1.0,
        depth: int = 4,
        padding: str = "same",
    ) -> None:
        super().__init__()
        if padding not in ("same", "valid"):
            raise DlkitError(f"--padding: unknown padding {padding!r}; choose from same, valid")
        self.stride = 2**depth
        lost = int(padding == "valid")
        first = round(64 * width_multiplier)
        widths = [first * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            TwoConvolutions(inputs, outputs, 1 - lost)
            for inputs, outputs in zip([3, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.halve = nn.ModuleList(
            nn.ConvTranspose2d(2 * outputs, outputs, 2, 2) for outputs in reversed(widths[:-1])
        )
        self.up = nn.ModuleList(
            TwoConvolutions(2 * outputs, outputs, 1 - lost) for outputs in reversed(widths[:-1])
        )
        self.score = nn.Conv2d(first, num_labels, 1)
        # Two convolutions lose 4 pixels of their level; all levels but the deepest occur twice.
        self.margin = lost * (2 * self.stride + 4 * (self.stride - 1))

    def padded_side(self, side: int) -> int:
        if not self.margin:
            return super().padded_side(side)
        # Every pooled map must have an even side: from a deepest map of side n, the output has
        # stride * (n - 4) - 4 * (stride - 1) pixels.
        deepest = -(-(side + 4 * (self.stride - 1)) // self.stride) + 4
        return self.stride * (deepest - 4) - 4 * (self.stride - 1) + 2 * self.margin

    def logits(self, images: Tensor) -> Tensor:
        x = images
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x if not skips else self.pool(x))
            skips.append(x)
        for halve, level, skip in zip(self.halve, self.up, skips[-2::-1], strict=True):
            x = halve(x)
            x = level(torch.cat([center_crop(skip, x), x], dim=1))
        out: Tensor = self.score(x)
        return out


class TwoConvolutions(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, padding: int = 1) -> None:
        super().__init__(
            ConvBlock(inputs, outputs, padding=padding),
            ConvBlock(outputs, outputs, padding=padding),
        )


def center_crop(maps: Tensor, like: Tensor) -> Tensor:
    """Crop the maps around their center to the size of `like`."""
    top = (maps.shape[-2] - like.shape[-2]) // 2
    left = (maps.shape[-1] - like.shape[-1]) // 2
    return maps[..., top : top + like.shape[-2], left : left + like.shape[-1]]


class BackboneUNet(Segmenter):
    """U-Net with a classification network of `dlkit.classify` as the encoder.

    The decoder has two convolutions at each resolution of the backbone, with as many channels as
    the backbone's map there; the logits of its finest map are upsampled to the image.
    """

    def __init__(self, num_labels: int, backbone: backbones.BackboneSettings) -> None:
        super().__init__(make_backbone(backbone, None))
        channels = self.backbone.channels
        self.decoder = nn.ModuleList(
            TwoConvolutions(deeper + skip, skip)
            for deeper, skip in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.score = nn.Conv2d(channels[0], num_labels, 1)

    def logits(self, images: Tensor) -> Tensor:
        *skips, x = self.backbone(images)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(torch.cat([resize_like(x, skip), skip], dim=1))
        return resize_like(self.score(x), images)


def unet(
    num_labels: int,
    backbone: backbones.BackboneSettings | None = None,
    width_multiplier: float | None = None,
    depth: int | None = None,
    padding: str | None = None,
) -> Segmenter:
    """A BackboneUNet with a `backbone`, which fixes width and depth; a UNet without one."""
    options = {"width_multiplier": width_multiplier, "depth": depth, "padding": padding}
    given = {name: value for name, value in options.items() if value is not None}
    if backbone is None:
        return UNet(num_labels, **given)  # type: ignore[arg-type]
    if given:
        raise DlkitError(
            f"{', '.join(map(option_name, given))}: not for a unet with a backbone; use --backbone"
            " none"
        )
    return BackboneUNet(num_labels, backbone)
