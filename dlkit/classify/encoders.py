"""The encoder of an autoencoder of `dlkit gan-sample`, as the start of a classifier."""

from dataclasses import dataclass
from typing import Any

from dlkit.classify.data import Preprocessing
from dlkit.core.store.checkpoint import Header

DENSE = {"encoder.features.1.": "head.1.", "encoder.features.3.": "head.4."}
CONVOLUTIONAL = {"encoder.features.": "features."}


@dataclass(frozen=True)
class Start:
    """The architecture that holds an encoder, its settings for `build`, and its inputs."""

    arch: str
    settings: dict[str, Any]
    inputs: Preprocessing
    beginnings: dict[str, str]  # of the names of weights: the encoder's, and ours

    def renamed(self, name: str) -> str:
        """The name in the classifier of a weight of the autoencoder."""
        for theirs, ours in self.beginnings.items():
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name


def start_of(header: Header) -> Start | None:
    """How the encoder of this model starts a classifier; None for a model of another kind."""
    if header.task != "gan-sample" or header.arch not in {"autoencoder", "vae"}:
        return None
    settings = header.settings
    channels = settings["channels"]
    # From -1 to 1, as gan-sample's networks see pictures.
    mean, deviation = [0.5] * channels, [0.5] * channels
    inputs = Preprocessing(settings["image_size"], "crop", channels, mean, deviation)
    if settings.get("network") == "dense":
        units = settings.get("hidden") or 512
        return Start("mlp", {"hidden": f"{units},{units}"}, inputs, DENSE)
    chosen = {"maps": settings.get("width") or 32, "kernel": settings.get("kernel") or 4}
    return Start("encoder", chosen, inputs, CONVOLUTIONAL)
