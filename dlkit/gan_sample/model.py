"""The architectures by name, building networks, and restoring them from weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dlkit.core.config import option_name
from dlkit.core.errors import DlkitError
from dlkit.gan_sample.models.architecture import Architecture, LatentModel
from dlkit.gan_sample.models.autoencoder import (
    AUTOENCODER,
    VAE,
    Autoencoder,
    VariationalAutoencoder,
)
from dlkit.gan_sample.models.cgan import CGAN
from dlkit.gan_sample.models.cyclegan import CYCLEGAN, CycleGan
from dlkit.gan_sample.models.dcgan import DCGAN, WGAN_GP
from dlkit.gan_sample.models.gan import GAN, GanModel
from dlkit.gan_sample.models.residual import RESIDUAL

__all__ = [
    "ARCHITECTURES", "Autoencoder", "CycleGan", "GanModel", "LatentModel", "VariationalAutoencoder",
    "build", "find_architecture", "restore", "shipped",
]  # fmt: skip

ARCHITECTURES: dict[str, Architecture] = {
    "residual": RESIDUAL,
    "gan": GAN,
    "dcgan": DCGAN,
    "wgan": DCGAN,
    "wgan-gp": WGAN_GP,
    "cgan": CGAN,
    "cyclegan": CYCLEGAN,
    "autoencoder": AUTOENCODER,
    "vae": VAE,
}


def find_architecture(arch: str) -> Architecture:
    """The architecture of that name; raises DlkitError for unknown names."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch]


def build(arch: str, image_size: int, channels: int, **settings: Any) -> Any:
    """Build an untrained network; `settings` are options of the architecture, and `classes`.

    All are values that JSON can hold; None is the architecture's default.
    """
    architecture = find_architecture(arch)
    allowed = (*architecture.options, *(["classes"] if architecture.conditional else []))
    chosen = {name: value for name, value in settings.items() if value is not None}
    if unknown := [name for name in chosen if name not in allowed]:
        raise DlkitError(
            f"{arch} has no option {option_name(unknown[0])}; choose from"
            f" {', '.join(map(option_name, architecture.options))}"
        )
    return architecture.build(image_size, channels, **chosen)


def restore(arch: str, settings: dict[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Build a network with these weights, without a discriminator if they have none."""
    model = build(arch, **settings)
    if not any(name.startswith("discriminator.") for name in weights):
        model.discriminator = None
    model.load_state_dict(weights)
    return model.eval()


def shipped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a published model, which needs no discriminator."""
    return {name: w for name, w in weights.items() if not name.startswith("discriminator.")}
