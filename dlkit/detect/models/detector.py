"""What the detectors share.

Images are uint8 (B, 3, H, W); boxes are x1, y1, x2, y2 in pixels of the image given to the network.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.detect.boxes import Suppression, suppressed

GRAY = 114  # the border around images that do not fill their batch
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean, standard deviation


class Found(NamedTuple):
    """The objects of one image: boxes (N, 4), scores (N,) falling, labels (N,)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization that also trains on one image's map of one place.

    That has no variance; it is normalized as at inference.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(input, mean, variance, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class ConvBlock(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            BatchNorm(outputs, eps=1e-3, momentum=0.03),
            nn.Hardswish(),
        )

    def fuse(self) -> None:
        """Fold the normalization into the convolution, for inference."""
        convolution, norm = self[0], self[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            self[0] = fuse_conv_bn_eval(convolution, norm)
            self[1] = nn.Identity()
            self[2] = nn.Hardswish(inplace=True)


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


def widen_narrow_maps(network: nn.Module) -> None:
    """Let no convolution of stride 2 see a map one place wide, without changing what it says.

    PyTorch's gradient of its weights is then random in bf16 on the CPU (seen in 2.15).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.register_forward_pre_hook(widened)


def widened(_layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """The input with a column, or a row, of the zeros that the convolution would add itself."""
    height, width = inputs[0].shape[-2:]
    if min(height, width) > 1:
        return inputs[0]
    return F.pad(inputs[0], (0, int(width == 1), 0, int(height == 1)))


def best_of(
    boxes: Tensor, scores: Tensor, threshold: float, suppression: Suppression, limit: int
) -> Found:
    """The objects of one image: of boxes (A, 4) with scores (A, C), each of any labels."""
    box, label = (scores >= max(threshold, 1e-6)).nonzero(as_tuple=True)
    candidates = boxes[box], scores[box, label], label
    return Found(*suppressed(*candidates, threshold, suppression, limit))
