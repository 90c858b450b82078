"""Small residual networks, the default of `dlkit gan-sample train`.

A lighter variant of Miyato et al. 2018 ("Spectral normalization", tables 3 and 4): channels double
as the resolution halves, so that all resolutions cost about the same, and strided convolutions
change the resolution.

Shapes: B images, K maps, h x w positions.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.gan_sample.models.architecture import Architecture
from dlkit.gan_sample.models.dcgan import Project, count_doublings
from dlkit.gan_sample.models.gan import (
    Discriminator,
    GanModel,
    Generator,
    add_spectral_norm,
    initialize,
)

MAX_FACTOR = 8  # most channels of a resolution, relative to the width


class UpBlock(nn.Module):
    """Maps (B, K, h, w) to (B, K', 2h, 2w): a residual block with a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        y = self.conv2(F.relu(self.norm2(y), inplace=True))
        # Nearest-neighbor upsampling leaves a visible grid for many epochs.
        output: Tensor = y + F.interpolate(self.shortcut(x), scale_factor=2, mode="bilinear")
        return output


class DownBlock(nn.Module):
    """Maps (B, K, h, w) to (B, K', h/2, w/2): a residual block with a strided convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 4, 2, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu(x, 0.2))
        y = self.conv2(F.leaky_relu(y, 0.2, inplace=True))
        output: Tensor = y + self.shortcut(F.avg_pool2d(x, 2))
        return output


class SumPool(nn.Module):
    """Sum of activated maps (B, K, h, w) over positions: features (B, K)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2).sum(dim=(2, 3))


def residual(
    image_size: int,
    channels: int,
    latent: int = 128,
    width: int = 16,
    spectral_norm: bool = True,
    classes: int | None = None,
) -> GanModel:
    """`width` is the number of channels at the image's resolution."""
    number = count_doublings(image_size)
    maps = [width * min(MAX_FACTOR, 1 << index) for index in range(number + 1)]
    side = image_size >> number
    blocks = [UpBlock(maps[i + 1], maps[i]) for i in reversed(range(number))]
    body = nn.Sequential(
        Project(latent + (classes or 0), maps[-1], side),
        *blocks,
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, channels, 3, padding=1),
    )
    critic = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        *(DownBlock(maps[i], maps[i + 1]) for i in range(number)),
        SumPool(),
    )
    discriminator = Discriminator(critic, maps[-1], classes)
    model = GanModel(Generator(body, latent, image_size, channels, classes), discriminator)
    initialize(model, nn.init.xavier_uniform_)
    if spectral_norm:
        add_spectral_norm(discriminator)
    return model


RESIDUAL = Architecture(GanModel, residual, ("latent", "width", "spectral_norm"))
