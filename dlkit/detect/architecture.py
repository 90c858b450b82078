"""The record of an architecture, and the interface of its network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
from dlkit.detect.models.detector import ScoredBoxes
from dlkit.detect.options import Suppression

Skeleton = Sequence[tuple[int, int]]  # pairs of keypoints, from 0, that lines connect


class DetectorSettings(TypedDict):
    """The settings in a detector's header: keyword arguments of `model.build`."""

    num_labels: NotRequired[schema.Count]  # of all but keypoints
    backbone: NotRequired[str | backbones.BackboneSettings]  # the name of one of torchvision
    size: NotRequired[Literal["nano", "small", "medium"]]  # of a yolo
    image_size: NotRequired[schema.Side]  # of architectures for images of one size
    keypoints: NotRequired[int]  # their number
    skeleton: NotRequired[Skeleton]


def detector_settings(header: Header) -> DetectorSettings:
    """The settings of a detector's header."""
    settings: DetectorSettings = schema.fit(DetectorSettings, header.settings)
    return settings


@runtime_checkable
class DetectorNetwork(Protocol):
    """The interface of a detector's network, besides that of `nn.Module`."""

    @property
    def forward(self) -> Callable[..., Any]:
        """Compute what the architecture's losses take."""

    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The objects of uint8 images (B, 3, H, W) that score at least `threshold`, best first."""

    def prepare(self, dtype: torch.dtype) -> None:
        """Optimize the network in place for inference in `dtype`; it cannot be trained then."""


def detector_network(network: nn.Module) -> DetectorNetwork:
    """The network itself, checked to have the interface."""
    if not isinstance(network, DetectorNetwork):
        raise TypeError(f"{type(network).__name__} has no `predict` or no `prepare`")
    return network


@dataclass(frozen=True)
class Architecture:
    """An architecture that can be trained: an entry of `model.ARCHITECTURES`.

    build: the class of its network, a DetectorNetwork. Its arguments are `num_labels`, those named
        in `settings`, and `backbone` unless there is none.
    losses: named losses of the network and of a batch: images (B, 3, S, S) of uint8, boxes
        (B, N, 4) in pixels, labels (B, N) with -1 for padding, region proposals (B, P, 4) if
        `proposals`, the outputs of a teacher if there is one; and keywords of `loss_settings`.
    options: the training options it has among those that not every architecture has.
    settings, loss_settings: training options that `build` and `losses` take.
    backbone: the default backbone, one of `dlkit classify` or of `torchvision_backbones`; None for
        a network that has its own layers instead.
    image_multiple: the number that `--image-size` must be a multiple of.
    fit: fits what gradients do not train, after each epoch, to single images with proposals.
    """

    build: type[nn.Module]
    losses: Callable[..., dict[str, Tensor]]
    options: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    loss_settings: tuple[str, ...] = ()
    backbone: str | None = "caltech101"
    torchvision_backbones: tuple[str, ...] = ()
    image_multiple: int = 1
    proposals: bool = False
    fit: Callable[..., None] | None = None
