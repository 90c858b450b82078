"""CycleGAN: unpaired image-to-image translation (Zhu et al. 2017).

Shapes: B images, C channels, H x W pixels, h x w patches.
"""

from torch import Tensor, nn

from dlkit.gan_sample.models.architecture import Architecture
from dlkit.gan_sample.models.gan import initialize_normal


class ResidualBlock(nn.Module):
    """A residual block of two convolutions with reflection padding."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_block(maps, maps, 3, 1),
            nn.ReflectionPad2d(1),
            nn.Conv2d(maps, maps, 3),
            nn.InstanceNorm2d(maps),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def conv_block(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(inputs, outputs, kernel, stride),
        nn.InstanceNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class ImageTranslator(nn.Sequential):
    """A generator of images (B, C, H, W) from -1 to 1 from images; H and W are multiples of 4.

    Appendix 7.2: c7s1-64, d128, d256, residual blocks, u128, u64, c7s1-3.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__(
            *conv_block(channels, width, 7, 1),
            *conv_block(width, 2 * width, 3, 2),
            *conv_block(2 * width, 4 * width, 3, 2),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            *upsampling_block(4 * width, 2 * width),
            *upsampling_block(2 * width, width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, channels, 7),
            nn.Tanh(),
        )


def upsampling_block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1),
        nn.InstanceNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class PatchDiscriminator(nn.Sequential):
    """Logits (B, 1, h, w), one for each patch of 70 x 70 pixels: C64-C128-C256-C512."""

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for index, stride in enumerate((2, 2, 1)):
            maps = width << index
            layers += [
                nn.Conv2d(maps, 2 * maps, 4, stride, 1),
                nn.InstanceNorm2d(2 * maps),
                nn.LeakyReLU(0.2, True),
            ]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


class CycleGan(nn.Module):
    """Two generators, A to B and B to A, and a discriminator for each domain.

    Published models have no discriminators.
    """

    def __init__(
        self, image_size: int, channels: int, width: int, blocks: int, discriminators: bool
    ) -> None:
        super().__init__()
        self.image_size, self.channels = image_size, channels
        self.a_to_b = ImageTranslator(channels, width, blocks)
        self.b_to_a = ImageTranslator(channels, width, blocks)
        self.discriminator: nn.ModuleDict | None = None
        if discriminators:
            self.discriminator = nn.ModuleDict(
                {domain: PatchDiscriminator(channels, width) for domain in ("a", "b")}
            )
        initialize_normal(self)

    def translate(self, images: Tensor, back: bool = False) -> Tensor:
        """Translate images (B, C, H, W) from A to B, or with `back` from B to A."""
        out: Tensor = (self.b_to_a if back else self.a_to_b)(images)
        return out


def cyclegan(
    image_size: int, channels: int, width: int = 64, blocks: int | None = None
) -> CycleGan:
    """`blocks` is 6 for images below 256 pixels and 9 otherwise, as in the paper."""
    return CycleGan(image_size, channels, width, blocks or (6 if image_size < 256 else 9), True)


CYCLEGAN = Architecture(CycleGan, cyclegan, ("width", "blocks"))
