"""The record of an architecture, and the interfaces of its network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
from dlkit.segment.config import SegmentTrainConfig


class SegmenterSettings(TypedDict, total=False):
    """The settings in a segmenter's header: keyword arguments of `model.build`.

    Each architecture has some of them; one that is missing has the architecture's default.
    """

    backbone: str | backbones.BackboneSettings  # the name of one of torchvision
    width_multiplier: float
    depth: int
    padding: Literal["same", "valid"]
    context: Literal["basic", "large", "none"]
    window: int
    step: int


def segmenter_settings(header: Header) -> SegmenterSettings:
    """The settings of a segmenter's header."""
    settings: SegmenterSettings = schema.fit(SegmenterSettings, header.settings)
    return settings


class TrainingBatch(NamedTuple):
    """A batch of B augmented images with their ground truth.

    `images` (B, 3, H, W) are normalized for the network, `mask` (B, H, W) class indices or IGNORED,
    `object_ids` (B, H, W) numbers from 1, whose `labels` (B, N) are padded with -1. `border`
    (B, H, W), from 0 to 1, is only there with `--border-weight`.
    """

    images: Tensor
    mask: Tensor
    object_ids: Tensor
    labels: Tensor
    border: Tensor | None


class InstancePrediction(NamedTuple):
    """The objects of one image by descending score: masks (N, H, W), labels, scores and boxes.

    Masks are boolean; boxes (N, 4) are x1, y1, x2, y2 in pixels of the network's input.
    """

    masks: Tensor
    labels: Tensor
    scores: Tensor
    boxes: Tensor


@runtime_checkable
class SemanticNetwork(Protocol):
    """The interface of a semantic segmentation network, besides that of `nn.Module`."""

    stride: int  # tiles start at multiples of it

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, C, H, W) in fp32 of normalized images (B, 3, H, W) of any size."""

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize images (B, 3, H, W) with values from 0 to 255 to the network's input."""

    def prepare(self, dtype: torch.dtype) -> None:
        """Optimize the network in place for inference in `dtype`; it cannot be trained then."""


@runtime_checkable
class InstanceNetwork(Protocol):
    """The interface of an instance segmentation network, besides that of `nn.Module`."""

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize images (B, 3, H, W) with values from 0 to 255 to the input of the loss."""

    def predict(
        self, images: list[Tensor], threshold: float, limit: int
    ) -> list[InstancePrediction]:
        """The objects in uint8 images (3, H, W) that score at least `threshold`, best first."""

    def prepare(self, dtype: torch.dtype) -> None:
        """Optimize the network in place for inference in `dtype`; it cannot be trained then."""


@dataclass(frozen=True)
class Architecture:
    """An architecture that can be trained: an entry of `model.ARCHITECTURES`.

    build: makes its network, a SemanticNetwork, or an InstanceNetwork if `instances`. Its arguments
        are `num_labels`, those named in `settings`, and `backbone` if it can be chosen.
    loss: the loss of the network (called as `build` returns it, but perhaps wrapped for several
        processes), a batch, the training's config, and class weights (C,) if any.
    options: the training options it has among those that not every architecture has.
    settings: the training options that `build` takes.
    default_backbone: the `dlkit classify` model it starts from unless a setting is chosen.
    classifier_backbone: whether `--backbone` may be a `dlkit classify` model.
    backbone_head: whether it uses the fully connected layers of such a model.
    torchvision_backbones: the names that `--backbone` may be otherwise.
    instances: whether it finds objects one by one instead of labeling pixels.
    """

    build: Callable[..., nn.Module]
    loss: Callable[[nn.Module, TrainingBatch, SegmentTrainConfig, Tensor | None], Tensor]
    options: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    default_backbone: str | None = None
    classifier_backbone: bool = True
    backbone_head: bool = False
    torchvision_backbones: tuple[str, ...] = ()
    instances: bool = False

    @property
    def has_backbone(self) -> bool:
        """Whether `--backbone` may name one."""
        return self.classifier_backbone or bool(self.torchvision_backbones)
