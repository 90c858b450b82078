"""Autoencoders: undercomplete, sparse and denoising ones, and the variational one.

Hinton and Salakhutdinov 2006; sparse: Ng 2011, CS294A; denoising: Vincent et al. 2008 (what the
encoder is given is spoilt in training only); variational: Kingma and Welling 2014, beta: Higgins et
al. 2017.

Shapes: B images, C channels, S x S pixels, Z numbers of a code.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.gan_sample.models.dcgan import (
    Flatten,
    convolutional_generator,
    initialize,
    strided_convolutions,
)
from dlkit.gan_sample.models.gan import Generator, check_labels, dense_generator


class Encoder(nn.Module):
    """Images (B, C, S, S) to vectors (B, outputs): `features`, a plain chain, then one layer."""

    def __init__(self, features: nn.Sequential, size: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(size, outputs)

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.head(self.features(images))
        return vectors


class Autoencoder(nn.Module):
    """Images to codes and back. A sparse one's codes lie between 0 and 1.

    Codes of real images have any mean and deviation; `fit` notes them, so that `sample` can begin
    with standard normal vectors as all models do (Ghosh et al. 2020 with one diagonal Gaussian).
    """

    code_mean: Tensor
    code_deviation: Tensor

    def __init__(self, encoder: Encoder, decoder: Generator, sparse: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.sparse = sparse
        self.register_buffer("code_mean", torch.zeros(decoder.latent))
        self.register_buffer("code_deviation", torch.ones(decoder.latent))

    @property
    def latent(self) -> int:
        return self.decoder.latent

    @property
    def classes(self) -> int | None:
        return None

    @property
    def image_size(self) -> int:
        return self.decoder.image_size

    @property
    def channels(self) -> int:
        return self.decoder.channels

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Half the logits (B, C, S, S) of the reconstruction, and the codes (B, Z)."""
        codes = self.encode(images)
        return self.decoder.before_tanh(codes), codes

    def encode(self, images: Tensor) -> Any:
        """Codes (B, Z) of images (B, C, S, S) from -1 to 1."""
        codes = self.encoder(images)
        return codes.sigmoid() if self.sparse else codes

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, S, S) from -1 to 1 of codes (B, Z)."""
        images: Tensor = self.decoder(z)
        return images

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def fit(self, codes: Tensor) -> None:
        """Note mean and deviation of the codes (N, Z) of real images.

        A number that is the same for all has a small one, so that every code has its vector.
        """
        self.code_mean.copy_(codes.mean(dim=0))
        self.code_deviation.copy_(codes.std(dim=0).clamp(min=1e-6))

    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, S, S) from -1 to 1 of standard normal vectors (B, Z)."""
        check_labels(labels, None)
        return self.decode(self.code_mean + self.code_deviation * z)


class VariationalAutoencoder(Autoencoder):
    """A code is a Gaussian; `encode` gives its mean and log variance, (B, Z) each.

    The codes' prior is the standard normal distribution, so nothing is fitted.
    """

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Half the logits (B, C, S, S) of a draw's image, and mean and log variance (B, Z)."""
        mean, log_variance = self.encode(images)
        return self.decoder.before_tanh(reparameterize(mean, log_variance)), mean, log_variance

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images)[0])


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A draw from the Gaussian through which gradients flow (section 2.4 of the paper)."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def parts(
    image_size: int,
    channels: int,
    latent: int,
    codes: int,
    network: str,
    hidden: int | None,
    width: int | None,
    kernel: int | None,
) -> tuple[Encoder, Generator]:
    """Encoder, which makes `codes` numbers, and decoder, its mirror image."""
    if network == "dense":
        units = hidden or 512
        chain = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * image_size**2, units),
            nn.ReLU(inplace=True),
            nn.Linear(units, units),
            nn.ReLU(inplace=True),
        )
        encoder = Encoder(chain, units, codes)
        body = dense_generator(latent, units, image_size, channels)
    else:
        maps, side = width or 32, kernel or 4
        chain, features = strided_convolutions(maps, side, image_size, channels)
        encoder = Encoder(chain.append(Flatten()), features, codes)
        body = convolutional_generator(latent, maps, side, image_size, channels)
        initialize(body)
    return encoder, Generator(body, latent, image_size, channels, None)


def autoencoder(
    image_size: int,
    channels: int,
    latent: int = 32,
    network: str = "convolutional",
    hidden: int | None = None,
    width: int | None = None,
    kernel: int | None = None,
    sparse: bool = False,
) -> Autoencoder:
    """`network`: dense (two layers of `hidden` units each way) or convolutional."""
    made = parts(image_size, channels, latent, latent, network, hidden, width, kernel)
    return Autoencoder(*made, sparse)


def vae(
    image_size: int,
    channels: int,
    latent: int = 32,
    network: str = "convolutional",
    hidden: int | None = None,
    width: int | None = None,
    kernel: int | None = None,
) -> VariationalAutoencoder:
    made = parts(image_size, channels, latent, 2 * latent, network, hidden, width, kernel)
    return VariationalAutoencoder(*made)
