"""DCGAN: convolutional generator and discriminator (Radford, Metz and Chintala 2016).

Shapes: B images, C channels, S x S pixels, Z numbers of a latent vector, F features.
"""

from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.gan_sample.models.architecture import Architecture
from dlkit.gan_sample.models.gan import (
    Discriminator,
    GanModel,
    Generator,
    add_spectral_norm,
    initialize_normal,
)

COARSEST = (4, 7)  # range of the side of the coarsest feature map


def count_doublings(image_size: int) -> int:
    """The number of doublings from the coarsest map, 4 to 7 pixels a side, to the image.

    Raises DlkitError for sizes that no number of doublings reaches.
    """
    side, number = image_size, 0
    while side > COARSEST[1] and side % 2 == 0:
        side, number = side // 2, number + 1
    if not COARSEST[0] <= side <= COARSEST[1] or number == 0:
        raise DlkitError(
            f"--image-size {image_size}: not 4, 5, 6 or 7 times a power of 2; give"
            f" --image-size {largest_size(image_size)}"
        )
    return number


def largest_size(image_size: int) -> int:
    """The largest size up to `image_size`, at least 8, that these networks support."""
    sizes = (side << number for side in range(4, 8) for number in range(1, 10))
    return max((size for size in sizes if size <= image_size), default=8)


class Project(nn.Module):
    """Vectors (B, Z) to feature maps (B, K, s, s), by a linear layer."""

    def __init__(self, inputs: int, maps: int, side: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, maps * side * side, bias=bias)
        self.shape = (side, side, maps)

    def forward(self, z: Tensor) -> Tensor:
        # Channels last in memory, the layout in which convolutions are fastest.
        y: Tensor = self.linear(z).unflatten(1, self.shape).permute(0, 3, 1, 2)
        return y


class Flatten(nn.Module):
    """Maps (B, K, h, w) to vectors in channels-last order, without a copy of such maps."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).flatten(1)


def convolutional_generator(
    inputs: int, width: int, kernel: int, image_size: int, channels: int
) -> nn.Sequential:
    """Figure 1: a projection, then transposed convolutions of stride 2 that halve the channels.

    Batch norm and ReLU everywhere except at the output.
    """
    number = count_doublings(image_size)
    maps = width << (number - 1)
    layers: list[nn.Module] = [
        Project(inputs, maps, image_size >> number, bias=False),
        nn.BatchNorm2d(maps),
        nn.ReLU(inplace=True),
    ]
    for _ in range(number - 1):
        layers += [
            transposed_conv(maps, maps // 2, kernel, bias=False),
            nn.BatchNorm2d(maps // 2),
            nn.ReLU(inplace=True),
        ]
        maps //= 2
    return nn.Sequential(*layers, transposed_conv(maps, channels, kernel, bias=True))


def transposed_conv(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the side, for any kernel size."""
    pad = (kernel - 1) // 2
    return nn.ConvTranspose2d(
        inputs, outputs, kernel, 2, pad, output_padding=2 * pad + 2 - kernel, bias=bias
    )


def strided_convolutions(
    width: int, kernel: int, image_size: int, channels: int, norm: bool = True
) -> tuple[nn.Sequential, int]:
    """Convolutions of stride 2 that double the channels, and their number of output features F.

    Batch norm everywhere except at the input, leaky ReLU.
    """
    layers: list[nn.Module] = []
    number = count_doublings(image_size)
    inputs, maps = channels, width
    for index in range(number):
        normed = norm and index > 0
        pad = (kernel - 1) // 2
        layers.append(nn.Conv2d(inputs, maps, kernel, 2, pad, bias=not normed))
        if normed:
            layers.append(nn.BatchNorm2d(maps))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        inputs, maps = maps, 2 * maps
    return nn.Sequential(*layers), inputs * (image_size >> number) ** 2


def dcgan(
    image_size: int,
    channels: int,
    latent: int = 100,
    width: int = 64,
    kernel: int = 4,
    spectral_norm: bool = False,
    classes: int | None = None,
    critic_norm: bool = True,
) -> GanModel:
    """`width` is the number of channels at the image's resolution, 128 in the paper.

    The paper's kernels are 5 x 5. Kernels of 4 x 4, as in PyTorch's example, cover every pixel
    equally often. `critic_norm` is batch norm in the discriminator.
    """
    body = convolutional_generator(latent + (classes or 0), width, kernel, image_size, channels)
    generator = Generator(body, latent, image_size, channels, classes)
    maps, features = strided_convolutions(width, kernel, image_size, channels, critic_norm)
    maps.append(Flatten())
    discriminator = Discriminator(maps, features, classes)
    model = GanModel(generator, discriminator)
    initialize_normal(model)
    if spectral_norm:
        add_spectral_norm(discriminator)
    return model


def wgan_gp(
    image_size: int, channels: int, latent: int = 100, width: int = 64, kernel: int = 4
) -> GanModel:
    """DCGAN's networks without batch norm in the critic.

    Batch norm would mix the gradients at different images, which the gradient penalty constrains
    one by one (Gulrajani et al. 2017, section 4).
    """
    return dcgan(image_size, channels, latent, width, kernel, critic_norm=False)


DCGAN = Architecture(GanModel, dcgan, ("latent", "width", "kernel", "spectral_norm"))
WGAN_GP = Architecture(GanModel, wgan_gp, ("latent", "width", "kernel"))
