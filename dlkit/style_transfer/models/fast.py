"""Feed-forward style transfer to one or several fixed styles (Johnson et al. 2016).

Instance normalization follows Ulyanov et al. 2016; styles share all weights except the scales and
shifts of the norms (Dumoulin et al. 2017). Shapes: B images, C channels, S styles.
"""

from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.style_transfer.models.painter import InstanceNorm, Painter

RESIDUAL_BLOCKS = 5


class ConditionalNorm(nn.Module):
    """Instance norm with a scale and a shift for each style (Dumoulin et al. 2017, equation 5)."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.norm = InstanceNorm()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalize maps (B, C, H, W); `code` (1 or B, S) are the weights of the styles."""
        scale, shift = (code @ own for own in (self.scale, self.shift))
        x = self.norm(x)
        return x * scale[:, :, None, None].to(x.dtype) + shift[:, :, None, None].to(x.dtype)


class ConvNorm(nn.Module):
    """A convolution with reflection padding, which avoids a frame, and a norm."""

    def __init__(
        self, inputs: int, outputs: int, side: int, styles: int, stride: int = 1, up: bool = False
    ) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(
            inputs, outputs, side, stride, padding=side // 2, padding_mode="reflect", bias=False
        )
        self.norm = ConditionalNorm(outputs, styles)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        if self.up:
            # Transposed convolutions leave a checkerboard pattern (Odena et al. 2016).
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        y: Tensor = self.norm(self.conv(x), code)
        return y


class ResidualBlock(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int, styles: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3, styles)
        self.second = ConvNorm(width, width, 3, styles)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        y: Tensor = x + self.second(self.first(x, code).relu(), code)
        return y


class FastSettings(TypedDict):
    """The settings in the header of a fast painter: its arguments."""

    styles: int
    width: int


class Fast(Painter):
    """Johnson's network; `width` is the number of channels of the first layer, 32 in the paper."""

    any_style = False
    stride = 4

    def __init__(self, styles: int = 1, width: int = 32) -> None:
        super().__init__()
        self.styles = styles
        self.down = nn.ModuleList(
            [
                ConvNorm(3, width, 9, styles),
                ConvNorm(width, 2 * width, 3, styles, stride=2),
                ConvNorm(2 * width, 4 * width, 3, styles, stride=2),
            ]
        )
        self.middle = nn.ModuleList(
            ResidualBlock(4 * width, styles) for _ in range(RESIDUAL_BLOCKS)
        )
        self.up = nn.ModuleList(
            [
                ConvNorm(4 * width, 2 * width, 3, styles, up=True),
                ConvNorm(2 * width, width, 3, styles, up=True),
            ]
        )
        self.last = nn.Conv2d(width, 3, 9, padding=4, padding_mode="reflect")

    def code(self, style: Tensor | int) -> Tensor:
        """Weights (1 or B, S) of the styles, one-hot for a style's index."""
        if not isinstance(style, int):
            return style
        if not 0 <= style < self.styles:
            raise DlkitError(
                f"no style {style + 1} in a model of {self.styles}; give a smaller number"
            )
        code = torch.zeros(1, self.styles, device=self.last.weight.device)
        code[0, style] = 1
        return code

    def paint(self, images: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        height, width = images.shape[-2:]
        # Pad to a multiple of the stride; the padding is cropped from the output.
        x = F.pad(
            images - 0.5, (0, -width % self.stride, 0, -height % self.stride), mode="replicate"
        )
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.down:
            x = layer(x, code).relu()
        for layer in self.middle:
            x = layer(x, code)
        for layer in self.up:
            x = layer(x, code).relu()
        painted = self.last(x).float().sigmoid()[..., :height, :width]
        return painted if strength == 1 else images.lerp(painted, strength)
