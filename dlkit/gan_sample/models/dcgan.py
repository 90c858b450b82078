"""Convolutional networks after Radford, Metz and Chintala 2016, "DCGAN".

Shapes: B images, C channels, S x S pixels, Z numbers of a latent vector, F features.
"""

from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.gan_sample.models.gan import (
    Discriminator,
    GanModel,
    Generator,
    of_layers,
    with_spectral_norm,
)

COARSEST = (4, 7)  # pixels of the smallest map, at least and at most


def doublings(image_size: int) -> int:
    """How often the coarsest map, of 4 to 7 pixels a side, is doubled to make the image.

    Raises DlkitError for sizes that cannot be made so.
    """
    side, number = image_size, 0
    while side > COARSEST[1] and side % 2 == 0:
        side, number = side // 2, number + 1
    if not COARSEST[0] <= side <= COARSEST[1] or number == 0:
        raise DlkitError(
            f"pictures of {image_size} pixels cannot be made by doubling 4, 5, 6 or 7:"
            f" take --image-size {possible_size(image_size)}"
        )
    return number


def possible_size(image_size: int) -> int:
    """The largest size up to this one, 8 at least, that these networks can make."""
    sizes = (start << number for start in range(4, 8) for number in range(1, 10))
    return max((size for size in sizes if size <= image_size), default=8)


class Project(nn.Module):
    """Vectors (B, Z) to maps (B, K, s, s), by one linear layer."""

    def __init__(self, inputs: int, maps: int, side: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, maps * side * side, bias=bias)
        self.shape = (side, side, maps)

    def forward(self, z: Tensor) -> Tensor:
        # Channels come last in memory, as the convolutions want them.
        return self.linear(z).unflatten(1, self.shape).permute(0, 3, 1, 2)


class Flatten(nn.Module):
    """Maps (B, K, h, w) to vectors, channels last: of maps that lie so, without a copy."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).flatten(1)


def convolutional_generator(
    inputs: int, width: int, kernel: int, image_size: int, channels: int
) -> nn.Sequential:
    """Figure 1: a projection, then transposed convolutions of stride 2, each with half the maps.

    Batch norm everywhere but at the output, ReLU; no pooling, nothing fully connected after
    the projection.
    """
    number = doublings(image_size)
    maps = width << (number - 1)
    layers: list[nn.Module] = [
        Project(inputs, maps, image_size >> number, bias=False),
        nn.BatchNorm2d(maps),
        nn.ReLU(inplace=True),
    ]
    for _ in range(number - 1):
        layers += [
            transposed(maps, maps // 2, kernel, bias=False),
            nn.BatchNorm2d(maps // 2),
            nn.ReLU(inplace=True),
        ]
        maps //= 2
    return nn.Sequential(*layers, transposed(maps, channels, kernel, bias=True))


def transposed(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the side, whatever its kernel."""
    pad = (kernel - 1) // 2
    return nn.ConvTranspose2d(
        inputs, outputs, kernel, 2, pad, output_padding=2 * pad + 2 - kernel, bias=bias
    )


def strided_convolutions(
    width: int, kernel: int, image_size: int, channels: int, norm: bool = True
) -> tuple[nn.Sequential, int]:
    """Convolutions of stride 2, each with twice the maps, and how many features (F) they make.

    Batch norm everywhere but at the input, leaky ReLU.
    """
    layers: list[nn.Module] = []
    number = doublings(image_size)
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


def initialize(module: nn.Module) -> None:
    """Section 4: weights from a normal distribution of deviation 0.02, biases of 0."""

    def start(layer: nn.Module) -> None:
        nn.init.normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    of_layers(module, start)


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
    """`width` are the maps next to the image; in the paper 128, of kernels of 5 pixels.

    Kernels of 4, as PyTorch's example has them, cover every pixel equally often. `critic_norm` is
    batch norm in the discriminator.
    """
    body = convolutional_generator(latent + (classes or 0), width, kernel, image_size, channels)
    generator = Generator(body, latent, image_size, channels, classes)
    maps, features = strided_convolutions(width, kernel, image_size, channels, critic_norm)
    maps.append(Flatten())
    discriminator = Discriminator(maps, features, classes)
    model = GanModel(generator, discriminator)
    initialize(model)
    if spectral_norm:
        with_spectral_norm(discriminator)
    return model
