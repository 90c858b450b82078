"""What every segmentation network is: images in, a logit of each class at every pixel out.

Shapes: B images, C classes, H x W pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # mean and standard deviation


class Segmenter(nn.Module):
    """The base of the networks: `forward` is the same in all, `logits` is each one's own.

    `logits` takes sides s for which `padded_side(s)` is s and loses `margin` pixels at each
    border; `forward` takes any size. `mean` and `std`, of values from 0 to 1, are the backbone's.
    """

    instances = False  # unlike MaskRCNN, which finds objects
    stride = 1  # sides are padded to multiples of it
    margin = 0
    backbone: backbones.Backbone  # of those that have one

    def __init__(self, backbone: backbones.Backbone | None = None) -> None:
        super().__init__()
        self.mean, self.std = IMAGENET
        if backbone is not None:
            self.mean, self.std = backbone.preprocessing.mean, backbone.preprocessing.std
            self.backbone, self.stride = backbone, backbone.strides[-1]

    def normalize(self, images: Tensor) -> Tensor:
        """The network's input, of images (B, 3, H, W) with values from 0 to 255."""
        mean = 255 * torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = 255 * torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        normal = (images.float() - mean) / std
        return normal.contiguous(memory_format=torch.channels_last)

    def padded_side(self, side: int) -> int:
        """The smallest side of an image for `logits` that gives `side` pixels of output."""
        return -(-side // self.stride) * self.stride

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, C, H - 2 * margin, W - 2 * margin) of normalized images (B, 3, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C, H, W) in fp32 of normalized images (B, 3, H, W) of any size.

        What lies beyond the border is mirrored, as in Ronneberger et al. 2015, section 2.
        """
        height, width = images.shape[-2:]
        images = images.to(next(self.parameters()).dtype)
        below = self.padded_side(height) - height - self.margin
        right = self.padded_side(width) - width - self.margin
        logits = self.logits(mirrored(images, self.margin, below, right))
        return logits[..., :height, :width].float()

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: fold norms into the convolutions before them, weights in `dtype`."""
        self.eval()
        for block in list(self.modules()):
            if isinstance(block, ConvBlock | backbones.Backbone):
                block.fuse()
        self.to(dtype)


def mirrored(images: Tensor, before: int, below: int, right: int) -> Tensor:
    """Images with mirrored borders: `before` pixels above and to the left, `below`, `right`.

    A border may be wider than the image, which is then mirrored again.
    """
    if before == below == right == 0:
        return images
    rows = mirrored_places(images.shape[-2], before, below, images.device)
    columns = mirrored_places(images.shape[-1], before, right, images.device)
    return images[:, :, rows[:, None], columns].contiguous(memory_format=torch.channels_last)


def mirrored_places(side: int, before: int, after: int, device: torch.device) -> Tensor:
    """Which of `side` pixels stands at each place of a line with mirrored ends."""
    period = max(2 * (side - 1), 1)
    places = torch.arange(-before, side + after, device=device) % period
    return torch.minimum(places, period - places)


class ConvBlock(nn.Sequential):
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
        """Fold the normalization into the convolution, for inference."""
        convolution, norm = self[0], self[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            self[0] = fuse_conv_bn_eval(convolution, norm)
            self[1] = nn.Identity()


def upsampled(maps: Tensor, like: Tensor) -> Tensor:
    """Maps (B, K, h, w) at the resolution of `like`, bilinear."""
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def make_backbone(settings: dict[str, Any] | None, width: float | None) -> backbones.Backbone:
    """The untrained backbone of these settings, or a VGG-16 with that share of the channels.

    Raises DlkitError unless it takes color images, and if both are given.
    """
    if settings is None:
        settings = vgg_settings(width or 1.0)
    elif width is not None:
        raise DlkitError("width is for the network without a backbone: a backbone has its own")
    backbone = backbones.build(settings)
    if backbone.preprocessing.channels != 3:
        raise DlkitError(
            f"this backbone ({settings['arch']}) takes {backbone.preprocessing.channels}-channel"
            " images, and a segmenter needs 3 channels: take another, such as caltech101"
        )
    return backbone


def vgg_settings(width: float) -> dict[str, Any]:
    """VGG-16 with its fully connected layers; the batch norm lets it learn from scratch."""
    mean, std = IMAGENET
    size = {"image_size": 224, "channels": 3}
    return {
        "arch": "vgg16",
        "network": {"num_labels": 1, **size, "width_multiplier": width, "norm": "batch"},
        "preprocessing": {**size, "fit": "crop", "mean": mean, "std": std},
        "head": True,
    }
