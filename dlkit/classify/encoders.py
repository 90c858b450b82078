"""Initialization of a classifier from the encoder of an autoencoder of `dlkit gan-sample`."""

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict, cast

from dlkit.classify.data import Preprocessing
from dlkit.core.store.checkpoint import Header

DENSE = {"encoder.features.1.": "head.1.", "encoder.features.3.": "head.4."}
CONVOLUTIONAL = {"encoder.features.": "features."}


class AutoencoderSettings(TypedDict):
    """The settings in the header of an autoencoder that describe its encoder."""

    image_size: int
    channels: int
    network: NotRequired[Literal["dense", "convolutional"]]
    hidden: NotRequired[int]
    width: NotRequired[int]
    kernel: NotRequired[int]


@dataclass(frozen=True)
class EncoderInit:
    """The architecture that an encoder initializes, its settings for `build`, its preprocessing."""

    arch: str
    settings: dict[str, Any]
    inputs: Preprocessing
    prefixes: dict[str, str]  # of weight names: the encoder's to the classifier's

    def rename(self, name: str) -> str:
        """Return the classifier's name for a weight of the autoencoder."""
        for theirs, ours in self.prefixes.items():
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name


def encoder_init(header: Header) -> EncoderInit | None:
    """Return how to initialize a classifier from this model; None if it is no autoencoder."""
    if header.task != "gan-sample" or header.arch not in {"autoencoder", "vae"}:
        return None
    settings = cast(AutoencoderSettings, header.settings)
    channels = settings["channels"]
    # gan-sample's networks take images with values from -1 to 1.
    mean, deviation = [0.5] * channels, [0.5] * channels
    inputs = Preprocessing(settings["image_size"], "crop", channels, mean, deviation)
    if settings.get("network") == "dense":
        units = settings.get("hidden") or 512
        return EncoderInit("mlp", {"hidden": f"{units},{units}"}, inputs, DENSE)
    chosen = {"maps": settings.get("width") or 32, "kernel": settings.get("kernel") or 4}
    return EncoderInit("encoder", chosen, inputs, CONVOLUTIONAL)
