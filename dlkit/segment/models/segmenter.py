"""Base class and common blocks of the semantic segmentation networks.

Shapes: B images, C classes, H x W pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.nn.fusion import fuse_conv_norm
from dlkit.core.vision import imagenet


class Segmenter(nn.Module):
    """Base class of semantic segmentation networks; subclasses implement `logits`.

    `logits` takes images whose sides s have `padded_side(s)` == s and loses `margin` pixels at each
    border; `forward` takes images of any size. `mean` and `std`, for values from 0 to 1, are the
    backbone's.
    """

    stride = 1  # sides are padded to multiples of the stride
    margin = 0
    backbone: backbones.Backbone  # if the network has one

    def __init__(self, backbone: backbones.Backbone | None = None) -> None:
        super().__init__()
        self.mean, self.std = list(imagenet.MEAN), list(imagenet.STD)
        if backbone is not None:
            self.mean, self.std = backbone.preprocessing.mean, backbone.preprocessing.std
            self.backbone, self.stride = backbone, backbone.strides[-1]

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize images (B, 3, H, W) with values from 0 to 255 to the network's input."""
        mean = 255 * torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = 255 * torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        normal = (images.float() - mean) / std
        return normal.contiguous(memory_format=torch.channels_last)

    def padded_side(self, side: int) -> int:
        """The smallest input side of `logits` that gives at least `side` pixels of output."""
        return -(-side // self.stride) * self.stride

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, C, H - 2 * margin, W - 2 * margin) of normalized images (B, 3, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C, H, W) in fp32 of normalized images (B, 3, H, W) of any size.

        Images are extrapolated by mirroring, as in Ronneberger et al. 2015, section 2.
        """
        height, width = images.shape[-2:]
        images = images.to(next(self.parameters()).dtype)
        below = self.padded_side(height) - height - self.margin
        right = self.padded_side(width) - width - self.margin
        logits = self.logits(mirror_pad(images, self.margin, below, right))
        return logits[..., :height, :width].float()

    def prepare(self, dtype: torch.dtype) -> None:
        """Prepare for inference: fold batch norms into convolutions, cast weights to `dtype`."""
        self.eval()
        for block in list(self.modules()):
            if isinstance(block, ConvBlock | backbones.Backbone):
                block.fuse()
        self.to(dtype)


def mirror_pad(images: Tensor, before: int, below: int, right: int) -> Tensor:
    """Pad images by mirroring: `before` pixels above and to the left, `below` and `right`.

    The padding may be wider than the image, which is then mirrored repeatedly.
    """
    if before == below == right == 0:
        return images
    rows = mirror_indices(images.shape[-2], before, below, images.device)
    columns = mirror_indices(images.shape[-1], before, right, images.device)
    return images[:, :, rows[:, None], columns].contiguous(memory_format=torch.channels_last)


def mirror_indices(side: int, before: int, after: int, device: torch.device) -> Tensor:
    """The source index of each pixel of a line of `side` pixels that is padded by mirroring."""
    period = max(2 * (side - 1), 1)
    positions = torch.arange(-before, side + after, device=device) % period
    return torch.minimum(positions, period - positions)


class ConvBlock(nn.Sequential):
    """Convolution, batch norm and ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, padding: int | None = None
    ) -> None:
        super().__init__(
            nn.Conv2d(
                inputs,
                outputs,
                kernel,
                padding=kernel // 2 if padding is None else padding,
                bias=False,
            ),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def fuse(self) -> None:
        """Fold the batch norm into the convolution, for inference."""
        fuse_conv_norm(self, "0", "1")


def resize_like(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear resizing of maps (B, K, h, w) to the resolution of `like`."""
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def make_backbone(
    settings: backbones.BackboneSettings | None, width_multiplier: float | None, head: bool = False
) -> backbones.Backbone:
    """Build the backbone with these settings, or a VGG-16 with a multiple of its channels.

    `head` adds its fully connected layers to the VGG-16. Raises DlkitError if both settings and
    width are given, or if the backbone does not take color images.
    """
    if settings is None:
        settings = vgg_settings(width_multiplier or 1.0, head)
    elif width_multiplier is not None:
        raise DlkitError(
            "--width-multiplier: a backbone has a fixed width; use --backbone none to choose it"
        )
    backbone = backbones.build(settings)
    if backbone.preprocessing.channels != 3:
        raise DlkitError(
            f"--backbone: {settings['arch']} takes {backbone.preprocessing.channels}-channel"
            " images, and a segmenter needs 3 channels; use another backbone, such as caltech101"
        )
    return backbone


def vgg_settings(width_multiplier: float, head: bool = False) -> backbones.BackboneSettings:
    """Settings of a VGG-16 with batch norm, to train from scratch; `head` adds fc6 and fc7."""
    mean, std = list(imagenet.MEAN), list(imagenet.STD)
    network = {"num_labels": 1, "image_size": 224, "channels": 3, "norm": "batch"}
    return {
        "arch": "vgg16",
        "network": {**network, "width_multiplier": width_multiplier},
        "preprocessing": {
            "image_size": 224,
            "fit": "crop",
            "channels": 3,
            "mean": mean,
            "std": std,
        },
        "head": head,
    }
