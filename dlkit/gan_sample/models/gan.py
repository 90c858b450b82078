"""Generator and discriminator in general, and the dense networks of the first GAN.

Goodfellow et al. 2014, "Generative Adversarial Networks"; classes as in Mirza and Osindero 2014.

Shapes: B images, C channels, S x S pixels, Z numbers of a latent vector, L classes, F features.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from dlkit.core.errors import DlkitError
from dlkit.core.nn.layers import Dropout
from dlkit.gan_sample.models.architecture import Architecture, LatentModel

PIECES = 5  # linear pieces of a maxout unit


class Generator(nn.Module):
    """Images (B, C, S, S) from -1 to 1 from standard normal latent vectors (B, Z).

    The output of `body` passes through tanh. With `classes`, the input of `body` is the latent
    vector and the one-hot label.
    """

    def __init__(
        self, body: nn.Module, latent: int, image_size: int, channels: int, classes: int | None
    ) -> None:
        super().__init__()
        self.body = body
        self.latent, self.classes = latent, classes
        self.image_size, self.channels = image_size, channels

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """`labels` (B,) are required with classes, and not allowed without."""
        return self.before_tanh(z, labels).tanh()

    def before_tanh(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, S, S) before tanh: half the logits of pixels from 0 to 1."""
        out: Tensor = self.body(append_labels(z, labels, self.classes))
        return out


class Discriminator(nn.Module):
    """Logits (B,) of images (B, C, S, S) being real, or scores of the critic of a Wasserstein GAN.

    `body` maps images to features (B, F). Each class adds a linear layer of its own: the projection
    discriminator of Miyato and Koyama 2018, equation 4.
    """

    def __init__(self, body: nn.Module, features: int, classes: int | None = None) -> None:
        super().__init__()
        self.body = body
        self.classes = classes
        self.head = nn.Linear(features, 1 + (classes or 0))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, self.classes)
        logits: Tensor = self.head(self.body(images))
        real = logits[:, 0]
        return real if labels is None else real + logits.gather(1, labels[:, None] + 1)[:, 0]


class DenseDiscriminator(nn.Module):
    """Maxout layers with dropout on flat images and one-hot labels."""

    def __init__(self, pixels: int, hidden: int, classes: int | None = None) -> None:
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(
            Dropout(0.2),
            Maxout(pixels + (classes or 0), hidden // PIECES),
            Dropout(0.5),
            Maxout(hidden // PIECES, hidden // PIECES),
            Dropout(0.5),
            nn.Linear(hidden // PIECES, 1),
        )

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.body(append_labels(images.flatten(1), labels, self.classes))
        return logits[:, 0]


class Maxout(nn.Module):
    """Units that are the maximum of PIECES linear functions (Goodfellow et al. 2013)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units * PIECES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x).unflatten(1, (-1, PIECES)).amax(2)
        return y


class GanModel(LatentModel):
    """A generator and a discriminator, which published models do not have."""

    def __init__(self, generator: Generator, discriminator: nn.Module | None) -> None:
        super().__init__(
            generator.latent, generator.image_size, generator.channels, generator.classes
        )
        self.generator, self.discriminator = generator, discriminator

    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(z, labels)
        return images


def check_labels(labels: Tensor | None, classes: int | None) -> None:
    if labels is None and classes:
        raise DlkitError("a class-conditional model needs a class for every picture; give labels")
    if labels is not None and not classes:
        raise DlkitError("this model has no classes; remove the labels")


def append_labels(x: Tensor, labels: Tensor | None, classes: int | None) -> Tensor:
    """Append one-hot labels to vectors (B, N), if there are classes: (B, N + L)."""
    check_labels(labels, classes)
    if labels is None:
        return x
    return torch.cat([x, F.one_hot(labels, classes or 0).to(x.dtype)], dim=1)


def find_layers(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d | nn.Linear]:
    """The convolutions and linear layers of a module."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [layer for layer in module.modules() if isinstance(layer, kinds)]


def initialize(module: nn.Module, weights: Callable[[Tensor], object]) -> None:
    """Initialize weights of convolutions and linear layers with a function, and biases with 0."""
    for layer in find_layers(module):
        weights(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def initialize_normal(module: nn.Module) -> None:
    """Initialize weights from N(0, 0.02^2) and biases with 0 (Radford et al. 2016, section 4)."""
    initialize(module, partial(nn.init.normal_, std=0.02))


def add_spectral_norm(discriminator: nn.Module) -> nn.Module:
    """Divide each weight matrix by its largest singular value (Miyato et al. 2018)."""
    for layer in find_layers(discriminator):
        spectral_norm(layer)
    return discriminator


def dense_generator(inputs: int, hidden: int, image_size: int, channels: int) -> nn.Sequential:
    """Two hidden layers; the generator's tanh replaces the paper's sigmoid."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, channels * image_size**2),
        nn.Unflatten(1, (channels, image_size, image_size)),
    )


def gan(
    image_size: int,
    channels: int,
    latent: int = 100,
    hidden: int = 1200,
    spectral_norm: bool = False,
    classes: int | None = None,
) -> GanModel:
    """The paper's networks for MNIST: 1200 units in the generator, 240 maxout units of 5 pieces."""
    body = dense_generator(latent + (classes or 0), hidden, image_size, channels)
    discriminator: nn.Module = DenseDiscriminator(channels * image_size**2, hidden, classes)
    if spectral_norm:
        discriminator = add_spectral_norm(discriminator)
    return GanModel(Generator(body, latent, image_size, channels, classes), discriminator)


GAN = Architecture(GanModel, gan, ("latent", "hidden", "spectral_norm"))
