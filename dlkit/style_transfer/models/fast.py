"""A feed-forward network for each style, or one for several (Johnson et al. 2016).

With the instance normalization of Ulyanov et al. 2016; several styles share all weights but the
scales and shifts of the norms (Dumoulin et al. 2017). Shapes: B images, C channels, S styles.
"""

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
        """Maps (B, C, H, W); `code` (1 or B, S) weighs the styles."""
        scale, shift = (code @ own for own in (self.scale, self.shift))
        x = self.norm(x)
        return x * scale[:, :, None, None].to(x.dtype) + shift[:, :, None, None].to(x.dtype)


class ConvNorm(nn.Module):
    """A convolution with the border mirrored, so that no frame is painted, and its norm."""

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
            # Transposed convolutions leave a chequered pattern (Odena et al. 2016).
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.norm(self.conv(x), code)


class Residual(nn.Module):
    def __init__(self, width: int, styles: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3, styles)
        self.second = ConvNorm(width, width, 3, styles)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return x + self.second(self.first(x, code).relu(), code)


class Fast(Painter):
    """Johnson's network; `width` are the channels of the first layer, 32 in the paper."""

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
        self.middle = nn.ModuleList(Residual(4 * width, styles) for _ in range(RESIDUAL_BLOCKS))
        self.up = nn.ModuleList(
            [
                ConvNorm(4 * width, 2 * width, 3, styles, up=True),
                ConvNorm(2 * width, width, 3, styles, up=True),
            ]
        )
        self.last = nn.Conv2d(width, 3, 9, padding=4, padding_mode="reflect")

    def code(self, style: Tensor | int) -> Tensor:
        """Weights (1 or B, S) of the styles: 1 for the one of this number, from 0 on."""
        if not isinstance(style, int):
            return style
        if not 0 <= style < self.styles:
            raise DlkitError(f"no style {style + 1}: the model has {self.styles}")
        code = torch.zeros(1, self.styles, device=self.last.weight.device)
        code[0, style] = 1
        return code

    def paint(self, images: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        height, width = images.shape[-2:]
        # Both halvings shall come out even; the mirrored rest is cut off again.
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
