"""Class-conditional GANs with the networks of other architectures (Mirza and Osindero 2014)."""

from typing import Any

from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.gan_sample.models.architecture import Architecture
from dlkit.gan_sample.models.dcgan import DCGAN
from dlkit.gan_sample.models.gan import GAN, GanModel
from dlkit.gan_sample.models.residual import RESIDUAL

NETWORKS = {"dense": GAN, "convolutional": DCGAN, "residual": RESIDUAL}


def cgan(
    image_size: int,
    channels: int,
    classes: int,
    network: str = "convolutional",
    **settings: Any,
) -> nn.Module:
    """`network` dense is that of Mirza and Osindero; `settings` are the options of the network."""
    architecture = NETWORKS[network]
    if unknown := sorted(settings.keys() - set(architecture.options)):
        raise DlkitError(
            f"cgan with --network {network} has no option --{unknown[0]}; choose from"
            f" {', '.join(f'--{name}' for name in architecture.options)}"
        )
    return architecture.build(image_size, channels, classes=classes, **settings)


CGAN = Architecture(
    GanModel,
    cgan,
    ("network", "latent", "hidden", "width", "kernel", "spectral_norm"),
    conditional=True,
)
