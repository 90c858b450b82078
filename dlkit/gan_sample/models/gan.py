"""What every generator and discriminator is, and those of the first paper, of linear layers.

Goodfellow et al. 2014, "Generative Adversarial Networks"; classes as in Mirza and Osindero 2014.

Shapes: B images, C channels, S x S pixels, Z numbers of a latent vector, L classes, F features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from dlkit.core.errors import DlkitError
from dlkit.core.nn.layers import Dropout

PIECES = 5  # linear functions of which a maxout unit takes the largest


class Generator(nn.Module):
    """Images (B, C, S, S) from -1 to 1, of latent vectors (B, Z) from a standard normal.

    `body` makes what tanh turns into pixels. With `classes`, it is given the label beside the
    vector, as a one-hot code.
    """

    def __init__(
        self, body: nn.Module, latent: int, image_size: int, channels: int, classes: int | None
    ) -> None:
        super().__init__()
        self.body = body
        self.latent, self.classes = latent, classes
        self.image_size, self.channels = image_size, channels

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """`labels` (B,) are needed where there are classes, and only there."""
        return self.before_tanh(z, labels).tanh()

    def before_tanh(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Half the logits (B, C, S, S) of pixels from 0 to 1."""
        out: Tensor = self.body(with_labels(z, labels, self.classes))
        return out


class Discriminator(nn.Module):
    """Logits (B,) of being real, of images (B, C, S, S); a critic's scores, in a Wasserstein GAN.

    `body` makes features (B, F) of images. A class is judged by a linear layer of its own, added to
    the one for all: the projection of Miyato and Koyama 2018, equation 4.
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
    """Maxout layers with dropout on flat images, with the label's one-hot code beside them."""

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
        logits: Tensor = self.body(with_labels(images.flatten(1), labels, self.classes))
        return logits[:, 0]


class Maxout(nn.Module):
    """Units that each are the largest of PIECES linear functions (Goodfellow et al. 2013)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units * PIECES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, PIECES)).amax(2)


class GanModel(nn.Module):
    """A generator and what it learned against; a shipped model has no discriminator any more."""

    def __init__(self, generator: Generator, discriminator: nn.Module | None) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    @property
    def latent(self) -> int:
        return self.generator.latent

    @property
    def classes(self) -> int | None:
        return self.generator.classes

    @property
    def image_size(self) -> int:
        return self.generator.image_size

    @property
    def channels(self) -> int:
        return self.generator.channels

    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, S, S) from -1 to 1 of latent vectors (B, Z) and, with classes, labels."""
        images: Tensor = self.generator(z, labels)
        return images


def check_labels(labels: Tensor | None, classes: int | None) -> None:
    if labels is None and classes:
        raise DlkitError("a class-conditional model needs a class for every picture")
    if labels is not None and not classes:
        raise DlkitError("this model knows no classes: it was trained without")


def with_labels(x: Tensor, labels: Tensor | None, classes: int | None) -> Tensor:
    """Vectors (B, N), or with classes (B, N + L), the labels' one-hot codes behind them."""
    check_labels(labels, classes)
    if labels is None:
        return x
    return torch.cat([x, F.one_hot(labels, classes or 0).to(x.dtype)], dim=1)


def of_layers(module: nn.Module, work: Callable[[nn.Module], object]) -> None:
    """Do something with each convolution and linear layer."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            work(layer)


def with_spectral_norm(discriminator: nn.Module) -> nn.Module:
    """Divide each weight matrix by its largest singular value (Miyato et al. 2018)."""
    of_layers(discriminator, spectral_norm)
    return discriminator


def dense_generator(inputs: int, hidden: int, image_size: int, channels: int) -> nn.Sequential:
    """Two hidden layers; the tanh behind is the paper's sigmoid, stretched to -1 to 1."""
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
        discriminator = with_spectral_norm(discriminator)
    return GanModel(Generator(body, latent, image_size, channels, classes), discriminator)
