"""The record of an architecture, and the interface of networks that generate images from noise."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """A class of networks, a function that builds them, and its options.

    `build(image_size, channels, **settings)` returns an untrained network of the class `network`,
    which determines the training loop. `options` are the settings that a user can choose, each with
    a default. A `conditional` architecture also needs the number of `classes`.
    """

    network: type[nn.Module]
    build: Callable[..., nn.Module]
    options: tuple[str, ...]
    conditional: bool = False


class LatentModel(nn.Module, ABC):
    """A network that generates images from standard normal latent vectors.

    Shapes: B images, C channels, S x S pixels, Z numbers of a latent vector.
    """

    def __init__(self, latent: int, image_size: int, channels: int, classes: int | None) -> None:
        super().__init__()
        self.latent, self.image_size = latent, image_size
        self.channels, self.classes = channels, classes

    @abstractmethod
    def sample(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, S, S) from -1 to 1 from vectors (B, Z) and, with classes, labels (B,)."""
