"""The ways to a label for every pixel before networks upsampled: windows, and shifted inputs.

Shapes: B images, C classes, H x W pixels, N places.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter, make_backbone, mirrored, vgg_settings


class Patch(Segmenter):
    """Classifies the middle pixel of a window, window by window (Ciresan et al. 2012).

    The window of `window` pixels a side stops at each `step`-th pixel; between these, logits are
    interpolated. Its middle is the pixel number window // 2.
    """

    def __init__(
        self,
        classes: int,
        backbone: dict[str, Any] | None = None,
        width: float | None = None,
        window: int = 32,
        step: int = 8,
    ) -> None:
        if backbone is None:
            backbone, width = {**vgg_settings(width or 1.0), "head": False}, None
        super().__init__(make_backbone(backbone, width))
        if window < self.stride:
            raise DlkitError(f"window {window} is less than the network's stride of {self.stride}")
        self.stride = step
        self.window = window
        self.score = nn.Linear(self.backbone.channels[-1], classes)

    def padded_side(self, side: int) -> int:
        return side  # the windows reach beyond the border themselves

    def classify(self, windows: Tensor) -> Tensor:
        """Logits (N, C) of the middles of windows (N, 3, window, window)."""
        out: Tensor = self.score(self.backbone(windows)[-1].mean(dim=(2, 3)))
        return out

    def forward(self, images: Tensor, places: Tensor | None = None) -> Tensor:
        """Logits (B, C, H, W) of normalized images (B, 3, H, W), or (N, C) of some places.

        `places` (N, 3) are image, row and column; learning needs no more than a few of them.
        """
        if places is None:
            return super().forward(images)
        before = self.window // 2
        after = self.window - before - 1
        around = mirrored(images, before, after, after)
        windows = [
            around[image, :, row : row + self.window, column : column + self.window]
            for image, row, column in places.tolist()
        ]
        return self.classify(torch.stack(windows)).float()

    def logits(self, images: Tensor) -> Tensor:
        before = self.window // 2
        after = self.window - before - 1 + self.stride  # the last stop is at or behind the border
        around = mirrored(images, before, after, after)
        windows = around.unfold(2, self.window, self.stride).unfold(3, self.window, self.stride)
        # One row of windows at a time bounds the memory.
        rows = []
        for row in windows.unbind(2):
            columns = self.classify(row.transpose(1, 2).flatten(0, 1))
            rows.append(columns.unflatten(0, (len(images), -1)).transpose(1, 2))
        return between(torch.stack(rows, dim=2), self.stride, images)


class ShiftAndStitch(Segmenter):
    """A network without upsampling, run on shifted images whose outputs are interlaced.

    An output is what the network says of the pixel in the middle of what it saw (Shelhamer et al.
    2016, section 3.2). The shifts are multiples of `step`, which divides the network's stride; with
    1 there is an output for each pixel, else logits are interpolated. So they are in training,
    which runs on the image without shifts alone.
    """

    def __init__(
        self,
        classes: int,
        backbone: dict[str, Any] | None = None,
        width: float | None = None,
        step: int = 8,
    ) -> None:
        if backbone is None:
            backbone, width = {**vgg_settings(width or 1.0), "head": False}, None
        super().__init__(make_backbone(backbone, width))
        if self.stride % step:
            raise DlkitError(f"step {step} does not divide the network's stride of {self.stride}")
        self.step = step
        self.score = nn.Conv2d(self.backbone.channels[-1], classes, 1)
        # Of the first output; a pool of 2x2 moves it by half of what a place of its input covers.
        finer = [1, *self.backbone.strides]
        self.middle = int(
            sum(
                stride / 2
                for stage, stride in zip(self.backbone.stages, finer, strict=False)
                if getattr(next(stage.children()), "kernel_size", None) == 2
            )
        )

    def padded_side(self, side: int) -> int:
        return side  # the shifted images reach beyond the border themselves

    def logits(self, images: Tensor) -> Tensor:
        step = self.stride if self.training else self.step
        # As many outputs as it takes for the last one to be at the border or behind it.
        height, width = (
            (-(-(side - 1) // self.stride) + 1) * self.stride for side in images.shape[-2:]
        )
        more = 3 * self.stride
        shifted = mirrored(images, self.middle, more, more)
        stitched = []
        for down in range(0, self.stride, step):
            line = [
                self.score(
                    self.backbone(shifted[..., down : down + height, right : right + width])[-1]
                )
                for right in range(0, self.stride, step)
            ]
            stitched.append(torch.stack(line, dim=-1).flatten(-2))
        return between(torch.stack(stitched, dim=3).flatten(2, 3), step, images)


def between(maps: Tensor, step: int, images: Tensor) -> Tensor:
    """Values at every pixel of the images, of maps (B, C, h, w) at every `step`-th."""
    if step > 1:
        size = [(side - 1) * step + 1 for side in maps.shape[-2:]]
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
    return maps[..., : images.shape[-2], : images.shape[-1]]
