"""Undercomplete, sparse, denoising and variational autoencoders.

Hinton and Salakhutdinov 2006; sparse: Ng 2011, CS294A; denoising: Vincent et al. 2008 (training
corrupts the inputs); variational: Kingma and Welling 2014; beta: Higgins et al. 2017.

Shapes: B images, C channels, S x S pixels, Z numbers of a code.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.gan_sample.models.architecture import Architecture, LatentModel
from dlkit.gan_sample.models.dcgan import (
    Flatten,
    convolutional_generator,
    strided_convolutions,
)
from dlkit.gan_sample.models.gan import (
    Generator,
    check_labels,
    dense_generator,
    initialize_normal,
)


class Encoder(nn.Module):
    """Images (B, C, S, S) to vectors (B, outputs): `features`, then a linear layer."""

    def __init__(self, features: nn.Sequential, size: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(size, outputs)

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.head(self.features(images))
        return vectors


class Autoencoder(LatentModel):
    """An encoder and a decoder; the codes of a sparse one are between 0 and 1.

    `fit` stores mean and deviation of real images' codes, so that `sample` accepts standard normal
    vectors as all models do (Ghosh et al. 2020, with one diagonal Gaussian).
    """

    code_mean: Tensor
    code_deviation: Tensor

    def __init__(self, encoder: Encoder, decoder: Generator, sparse: bool = False) -> None:
        super().__init__(decoder.latent, decoder.image_size, decoder.channels, None)
        self.encoder, self.decoder = encoder, decoder
        self.sparse = sparse
        self.register_buffer("code_mean", torch.zeros(decoder.latent))
        self.register_buffer("code_deviation", torch.ones(decoder.latent))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Reconstructions (B, C, S, S) before tanh, and codes (B, Z)."""
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
        """Store mean and deviation of the codes (N, Z) of real images.

        The deviation of a constant unit is set to a small value, so that codes can be inverted.
        """
        self.code_mean.copy_(codes.mean(dim=0))
        self.code_deviation.copy_(codes.std(dim=0).clamp(min=1e-6))

    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, None)
        return self.decode(self.code_mean + self.code_deviation * z)


class VariationalAutoencoder(Autoencoder):
    """An autoencoder with Gaussian codes; `encode` returns mean and log variance, (B, Z) each.

    The prior of the codes is the standard normal distribution, so `fit` is not needed.
    """

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Reconstructions of a random code before tanh, and mean and log variance (B, Z)."""
        mean, log_variance = self.encode(images)
        return self.decoder.before_tanh(reparameterize(mean, log_variance)), mean, log_variance

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images)[0])


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A differentiable sample of the Gaussian (Kingma and Welling 2014, section 2.4)."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def build_parts(
    image_size: int,
    channels: int,
    latent: int,
    codes: int,
    network: str = "convolutional",
    hidden: int = 512,
    width: int = 32,
    kernel: int = 4,
) -> tuple[Encoder, Generator]:
    """An encoder with `codes` outputs, and a decoder that mirrors it.

    `network` is dense (two layers of `hidden` units each) or convolutional (`width`, `kernel`).
    """
    if network == "dense":
        chain = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * image_size**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        encoder = Encoder(chain, hidden, codes)
        body = dense_generator(latent, hidden, image_size, channels)
    else:
        chain, features = strided_convolutions(width, kernel, image_size, channels)
        encoder = Encoder(chain.append(Flatten()), features, codes)
        body = convolutional_generator(latent, width, kernel, image_size, channels)
        initialize_normal(body)
    return encoder, Generator(body, latent, image_size, channels, None)


def autoencoder(
    image_size: int, channels: int, latent: int = 32, sparse: bool = False, **settings: Any
) -> Autoencoder:
    """`settings` are those of `build_parts`."""
    return Autoencoder(*build_parts(image_size, channels, latent, latent, **settings), sparse)


def vae(
    image_size: int, channels: int, latent: int = 32, **settings: Any
) -> VariationalAutoencoder:
    """`settings` are those of `build_parts`; the encoder has two outputs for each code."""
    return VariationalAutoencoder(
        *build_parts(image_size, channels, latent, 2 * latent, **settings)
    )


OPTIONS = ("latent", "network", "hidden", "width", "kernel")
AUTOENCODER = Architecture(Autoencoder, autoencoder, (*OPTIONS, "sparse"))
VAE = Architecture(VariationalAutoencoder, vae, OPTIONS)
