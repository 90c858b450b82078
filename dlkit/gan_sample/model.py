"""The architectures by name.

A GanModel, an Autoencoder (of which the variational one is a kind), or a CycleGan. The first two
have `latent`, `classes`, `image_size`, `channels` and `sample(z, labels)`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.gan_sample.models.autoencoder import (
    Autoencoder,
    VariationalAutoencoder,
    autoencoder,
    vae,
)
from dlkit.gan_sample.models.cyclegan import CycleGan, cyclegan
from dlkit.gan_sample.models.dcgan import dcgan
from dlkit.gan_sample.models.gan import GanModel, gan
from dlkit.gan_sample.models.residual import residual

__all__ = [
    "ARCHITECTURES", "Autoencoder", "CycleGan", "GanModel", "VariationalAutoencoder", "build",
    "options", "restore", "shipped",
]  # fmt: skip

NETWORKS: dict[str, Callable[..., GanModel]] = {
    "dense": gan,
    "convolutional": dcgan,
    "residual": residual,
}


def wgan_gp(
    image_size: int,
    channels: int,
    latent: int = 100,
    width: int = 64,
    kernel: int = 4,
) -> GanModel:
    """DCGAN's networks without batch norm in the critic.

    The penalty is on the gradient at each image by itself, which batch norm would mix with those at
    others (Gulrajani et al. 2017, section 4).
    """
    return dcgan(image_size, channels, latent, width, kernel, critic_norm=False)


def cgan(
    image_size: int,
    channels: int,
    classes: int,
    network: str = "convolutional",
    **settings: Any,
) -> GanModel:
    """Class-conditional: Mirza and Osindero 2014 with `network` dense; others are today's.

    `settings` are those of the architectures gan, dcgan and residual.
    """
    make = NETWORKS[network]
    if unknown := settings.keys() - inspect.signature(make).parameters.keys():
        raise DlkitError(f"cgan has no {min(unknown)} with --network {network}")
    return make(image_size, channels, classes=classes, **settings)


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "residual": residual,
    "gan": gan,
    "dcgan": dcgan,
    "wgan": dcgan,
    "wgan-gp": wgan_gp,
    "cgan": cgan,
    "cyclegan": cyclegan,
    "autoencoder": autoencoder,
    "vae": vae,
}
OF_CGAN = ["latent", "hidden", "width", "kernel", "spectral_norm"]
NOT_CHOSEN = ("image_size", "channels", "classes", "critic_norm", "settings")


def options(arch: str) -> list[str]:
    """What can be chosen in an architecture, beside its images and classes."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    own = [n for n in inspect.signature(ARCHITECTURES[arch]).parameters if n not in NOT_CHOSEN]
    return own + (OF_CGAN if arch == "cgan" else [])


def build(arch: str, image_size: int, channels: int, **settings: Any) -> Any:
    """The model of that name, untrained; `settings` are those that `options(arch)` lists.

    Of a cgan also the number of `classes`. All fit in JSON; None is the architecture's own choice.
    """
    possible = [*options(arch), *(["classes"] if arch == "cgan" else [])]
    chosen = {name: value for name, value in settings.items() if value is not None}
    if unknown := [name for name in chosen if name not in possible]:
        raise DlkitError(f"{arch} has no {unknown[0]} to choose: there is {', '.join(possible)}")
    return ARCHITECTURES[arch](image_size, channels, **chosen)


def restore(arch: str, settings: dict[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """The model with these weights; without a discriminator where they have none."""
    model = build(arch, **settings)
    if not any(name.startswith("discriminator.") for name in weights):
        model.discriminator = None
    model.load_state_dict(weights)
    return model.eval()


def shipped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a finished model needs: the discriminator's work is done."""
    return {name: w for name, w in weights.items() if not name.startswith("discriminator.")}
