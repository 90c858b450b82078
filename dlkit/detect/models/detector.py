"""What the detectors share.

Images are uint8 (B, 3, H, W); boxes are x1, y1, x2, y2 in pixels of the image given to the network.
"""

from typing import NamedTuple

from torch import Tensor

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean, standard deviation


class Found(NamedTuple):
    """The objects of one image: boxes (N, 4), scores (N,) falling, labels (N,)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def channels_at(strides: tuple[int, ...], backbone: backbones.Backbone) -> list[int]:
    """The channels of a backbone's maps at these strides; a DlkitError if it lacks one."""
    channels = dict(zip(backbone.strides, backbone.channels, strict=True))
    if backbone.preprocessing.channels != 3 or not channels.keys() >= set(strides):
        raise DlkitError(
            f"this backbone makes maps of {backbone.preprocessing.channels}-channel images at"
            f" strides {backbone.strides}, and a detector needs 3 channels and strides"
            f" {list(strides)}: take one trained at more than 64 pixels, such as caltech101"
        )
    return [channels[stride] for stride in strides]
