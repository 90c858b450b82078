"""Dense prediction without upsampling: sliding windows, and shift-and-stitch.

Shapes: B images, C classes, H x W pixels, N windows.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter, make_backbone, mirror_pad


class Patch(Segmenter):
    """A classifier of the center pixel of a sliding window (Ciresan et al. 2012).

    The window of `window` pixels a side moves in steps of `step` pixels; logits are interpolated in
    between. Its center is the pixel with index window // 2.
    """

    def __init__(
        self,
        num_labels: int,
        backbone: backbones.BackboneSettings | None = None,
        width_multiplier: float | None = None,
        window: int = 32,
        step: int = 8,
    ) -> None:
        super().__init__(make_backbone(backbone, width_multiplier))
        if window < self.stride:
            raise DlkitError(
                f"--window {window}: smaller than the network's stride of {self.stride}; use at"
                f" least {self.stride}"
            )
        self.stride = step
        self.window = window
        self.score = nn.Linear(self.backbone.channels[-1], num_labels)

    def padded_side(self, side: int) -> int:
        return side  # the windows themselves extend beyond the border

    def classify(self, windows: Tensor) -> Tensor:
        """Logits (N, C) of the center pixels of windows (N, 3, window, window)."""
        out: Tensor = self.score(self.backbone(windows)[-1].mean(dim=(2, 3)))
        return out

    def forward(self, images: Tensor, places: Tensor | None = None) -> Tensor:
        """Logits (B, C, H, W) of normalized images (B, 3, H, W), or (N, C) of sampled pixels.

        `places` (N, 3) are image, row and column of the pixels, of which training needs only a few.
        """
        if places is None:
            return super().forward(images)
        before = self.window // 2
        after = self.window - before - 1
        around = mirror_pad(images, before, after, after)
        windows = [
            around[image, :, row : row + self.window, column : column + self.window]
            for image, row, column in places.tolist()
        ]
        return self.classify(torch.stack(windows)).float()

    def logits(self, images: Tensor) -> Tensor:
        before = self.window // 2
        after = self.window - before - 1 + self.stride  # the last window is at or past the border
        around = mirror_pad(images, before, after, after)
        windows = around.unfold(2, self.window, self.stride).unfold(3, self.window, self.stride)
        # One row of windows at a time bounds the memory.
        rows = []
        for row in windows.unbind(2):
            logits = self.classify(row.transpose(1, 2).flatten(0, 1))
            rows.append(logits.view(len(images), -1, logits.shape[1]).transpose(1, 2))
        return interpolate_stops(torch.stack(rows, dim=2), self.stride, images)


class ShiftAndStitch(Segmenter):
    """A network without upsampling, applied to shifted images whose outputs are interlaced.

    An output belongs to the center of its receptive field (Shelhamer et al. 2016, section 3.2). The
    shifts are multiples of `step`, which divides the network's stride; with step 1 every pixel has
    an output, otherwise logits are interpolated, as in training, which uses the unshifted image.
    """

    def __init__(
        self,
        num_labels: int,
        backbone: backbones.BackboneSettings | None = None,
        width_multiplier: float | None = None,
        step: int = 8,
    ) -> None:
        super().__init__(make_backbone(backbone, width_multiplier))
        if self.stride % step:
            raise DlkitError(
                f"--step {step}: does not divide the network's stride of {self.stride}; use a"
                " divisor of it"
            )
        self.step = step
        self.score = nn.Conv2d(self.backbone.channels[-1], num_labels, 1)
        # Pixel of the first output; a 2x2 pool moves it by half of its input's stride.
        finer = [1, *self.backbone.strides]
        self.middle = int(
            sum(
                stride / 2
                for stage, stride in zip(self.backbone.stages, finer, strict=False)
                if getattr(next(stage.children()), "kernel_size", None) == 2
            )
        )

    def padded_side(self, side: int) -> int:
        return side  # the shifted images themselves extend beyond the border

    def logits(self, images: Tensor) -> Tensor:
        step = self.stride if self.training else self.step
        # Enough outputs for the last one to be at or past the border.
        height, width = (
            (-(-(side - 1) // self.stride) + 1) * self.stride for side in images.shape[-2:]
        )
        more = 3 * self.stride
        shifted = mirror_pad(images, self.middle, more, more)
        stitched = []
        for down in range(0, self.stride, step):
            line = [
                self.score(
                    self.backbone(shifted[..., down : down + height, right : right + width])[-1]
                )
                for right in range(0, self.stride, step)
            ]
            stitched.append(torch.stack(line, dim=-1).flatten(-2))
        return interpolate_stops(torch.stack(stitched, dim=3).flatten(2, 3), step, images)


def interpolate_stops(maps: Tensor, step: int, images: Tensor) -> Tensor:
    """Interpolate maps (B, C, h, w) at every `step`-th pixel to all pixels of the images."""
    if step > 1:
        size = [(side - 1) * step + 1 for side in maps.shape[-2:]]
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
    return maps[..., : images.shape[-2], : images.shape[-1]]
