"""The architectures by name, building networks, and restoring them from weights."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from torch import Tensor

from dlkit.core.config import option_name
from dlkit.core.errors import DlkitError
from dlkit.core.nn import rebuild
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
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
    "ARCHITECTURES", "Autoencoder", "CycleGan", "GanModel", "GanSettings", "LatentModel",
    "VariationalAutoencoder", "build", "find_architecture", "restore",
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


class GanSettings(TypedDict):
    """The settings in a header: keyword arguments of `build`.

    One that is missing is not an option of the architecture, or has its default.
    """

    image_size: schema.Side
    channels: Annotated[int, schema.Within(1, 3)]
    network: NotRequired[Literal["dense", "convolutional", "residual"]]  # type of layers
    latent: NotRequired[int]
    width: NotRequired[int]
    hidden: NotRequired[int]
    kernel: NotRequired[int]
    blocks: NotRequired[int]  # of cyclegan's generators
    spectral_norm: NotRequired[bool]
    sparse: NotRequired[bool]  # an autoencoder with codes between 0 and 1
    classes: NotRequired[int]  # of a conditional architecture


def gan_settings(header: Header) -> GanSettings:
    """The settings of a checkpoint's header."""
    settings: GanSettings = schema.fit(GanSettings, header.settings)
    return settings


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
    return schema.call(architecture.build, chosen, image_size, channels)


def restore(name: str, header: Header, weights: Mapping[str, Tensor]) -> Any:
    """The network of a checkpoint, without a discriminator if there are no weights of one.

    Raises DlkitError about the model `name` if settings or weights do not fit.
    """

    def build_network(header: Header) -> Any:
        settings = gan_settings(header)
        if header.labels and (settings.get("classes") or 0) != len(header.labels):
            raise DlkitError(f"{len(header.labels)} labels, but not as many classes")
        network = build(header.arch, **settings)
        if not any(weight.startswith("discriminator.") for weight in weights):
            network.discriminator = None
        return network

    network = rebuild.build_network(name, header, build_network, weights)
    rebuild.load_weights(name, network, weights, header.arch)
    return network.eval()
