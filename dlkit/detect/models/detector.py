"""Layers and functions that several detectors share.

Images are uint8 (B, 3, H, W); boxes are x1, y1, x2, y2 in pixels of the image given to the network.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.nn.fusion import fuse_conv_norm
from dlkit.detect.boxes import suppress
from dlkit.detect.options import Suppression

GRAY = 114  # the border around images that do not fill their batch


class ScoredBoxes(NamedTuple):
    """Scored boxes of one image, best first: boxes (N, 4), scores (N,), labels (N,)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization that also trains on a single value per channel.

    A single value has no variance; it is normalized as in evaluation mode.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(input, mean, variance, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class ConvBlock(nn.Sequential):
    """Convolution, batch norm and Hardswish."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            BatchNorm(outputs, eps=1e-3, momentum=0.03),
            nn.Hardswish(),
        )

    def fuse(self) -> None:
        """Fold the normalization into the convolution, for inference."""
        if fuse_conv_norm(self, "0", "1"):
            self[2] = nn.Hardswish(inplace=True)


class BackboneDetector(nn.Module):
    """A detector on a backbone of `dlkit.classify`, whose settings it takes."""

    def __init__(self, backbone: backbones.BackboneSettings) -> None:
        super().__init__()
        self.backbone = backbones.build(backbone)

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: fold each normalization into its convolution, weights in `dtype`."""
        fuse_blocks(self)
        self.backbone.fuse()
        self.to(dtype)


def channels_at(strides: tuple[int, ...], backbone: backbones.Backbone) -> list[int]:
    """The channels of a backbone's maps at these strides.

    Raises DlkitError if the backbone lacks one of the strides.
    """
    channels = dict(zip(backbone.strides, backbone.channels, strict=True))
    if backbone.preprocessing.channels != 3 or not channels.keys() >= set(strides):
        raise DlkitError(
            f"--backbone: has maps of {backbone.preprocessing.channels}-channel images at strides"
            f" {backbone.strides}, but this detector needs 3 channels and strides {list(strides)};"
            " choose one trained at more than 64 pixels, such as caltech101"
        )
    return [channels[stride] for stride in strides]


def maps_at(strides: tuple[int, ...], backbone: backbones.Backbone, images: Tensor) -> list[Tensor]:
    """A backbone's maps of uint8 images (B, 3, H, W) at these strides."""
    dtype = next(backbone.parameters()).dtype
    maps = backbone(backbone.preprocessing.normalize(images).to(dtype))
    at = dict(zip(backbone.strides, maps, strict=True))
    return [at[stride] for stride in strides]


def fuse_blocks(network: nn.Module) -> None:
    """Fold the normalization of each ConvBlock into its convolution, for inference."""
    for block in network.modules():
        if isinstance(block, ConvBlock):
            block.fuse()


def pad_narrow_maps(network: nn.Module) -> None:
    """Pad maps of width or height 1 before each convolution of stride 2; outputs do not change.

    Without this, PyTorch's gradient of the weights is random in bf16 on the CPU (seen in 2.15).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.register_forward_pre_hook(pad_narrow_map)


def pad_narrow_map(_layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Add a column or a row of the zeros that the convolution would add itself."""
    height, width = inputs[0].shape[-2:]
    if min(height, width) > 1:
        return inputs[0]
    return F.pad(inputs[0], (0, int(width == 1), 0, int(height == 1)))


def select_boxes(
    boxes: Tensor, scores: Tensor, threshold: float, suppression: Suppression, limit: int
) -> ScoredBoxes:
    """Select and suppress boxes (A, 4) of one image, each with scores (A, C) of several labels."""
    box, label = (scores >= max(threshold, 1e-6)).nonzero(as_tuple=True)
    candidates = boxes[box], scores[box, label], label
    return ScoredBoxes(*suppress(*candidates, threshold, suppression, limit))
