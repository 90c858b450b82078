"""SSD, a single-shot detector on default boxes.

Shapes: B images, C labels, A default boxes over all maps.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.detect.boxes import decode
from dlkit.detect.models.detector import (
    BackboneDetector,
    ConvBlock,
    ScoredBoxes,
    channels_at,
    maps_at,
    pad_narrow_maps,
    select_boxes,
)
from dlkit.detect.options import Suppression

STRIDES = (8, 16, 32)  # of the backbone's maps; three more maps follow
EXTRA_MAPS, EXTRA_WIDTH = 3, 256
# Of the six maps, as in the paper's SSD300: the first, finest map has its own scale, and the first
# and the last two maps have four boxes per cell instead of six.
SCALES = (0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075)
RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
# The authors' code divides the offsets by these, to balance those of centers and of sizes.
VARIANCES = (0.1, 0.1, 0.2, 0.2)


class DefaultBoxes(NamedTuple):
    """Logits (B, A, 1 + C) of the default boxes, background first, and offsets (B, A, 4) from the
    default boxes (A, 4)."""

    logits: Tensor
    offsets: Tensor
    defaults: Tensor


class SSD(BackboneDetector):
    """The single-shot multibox detector (Liu et al. 2016) on a backbone of `dlkit.classify`.

    Six maps: the backbone's at strides 8, 16 and 32, and three further ones, each half the size of
    the one before; 3 x 3 convolutions score default boxes and predict their offsets. Scales are
    fractions of `image_size`, so default boxes have the same size in pixels in all images.
    Differences from the paper: the backbone, batch normalization in the added layers.
    """

    def __init__(
        self, num_labels: int, image_size: int, backbone: backbones.BackboneSettings
    ) -> None:
        super().__init__(backbone)
        self.num_labels, self.image_size = num_labels, image_size
        channels = [*channels_at(STRIDES, self.backbone), *[EXTRA_WIDTH] * EXTRA_MAPS]
        self.extras = nn.ModuleList(
            nn.Sequential(
                ConvBlock(inputs, EXTRA_WIDTH // 2, kernel=1),
                ConvBlock(EXTRA_WIDTH // 2, EXTRA_WIDTH, stride=2),
            )
            for inputs in channels[len(STRIDES) - 1 : -1]
        )
        pad_narrow_maps(self.extras)
        counts = [2 + 2 * len(ratios) for ratios in RATIOS]
        self.scores = nn.ModuleList(
            nn.Conv2d(inputs, count * (1 + num_labels), 3, padding=1)
            for inputs, count in zip(channels, counts, strict=True)
        )
        self.offsets = nn.ModuleList(
            nn.Conv2d(inputs, count * 4, 3, padding=1)
            for inputs, count in zip(channels, counts, strict=True)
        )

    def forward(self, images: Tensor) -> DefaultBoxes:
        """Logits and offsets of the default boxes of uint8 images (B, 3, H, W)."""
        maps = maps_at(STRIDES, self.backbone, images)
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        logits, offsets = [], []
        for features, score, offset in zip(maps, self.scores, self.offsets, strict=True):
            logits.append(score(features).float().permute(0, 2, 3, 1))
            offsets.append(offset(features).float().permute(0, 2, 3, 1))
        shapes = [(features.shape[-2], features.shape[-1]) for features in maps]
        defaults = default_boxes(shapes, (images.shape[-2], images.shape[-1]), self.image_size)
        return DefaultBoxes(
            torch.cat([own.reshape(len(own), -1, 1 + self.num_labels) for own in logits], dim=1),
            torch.cat([own.reshape(len(own), -1, 4) for own in offsets], dim=1),
            defaults.to(images.device),
        )

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The objects of each image that score at least `threshold`, best first."""
        logits, offsets, defaults = self(images)
        boxes = decode(offsets * offsets.new_tensor(VARIANCES), defaults)
        scores = logits.softmax(dim=-1)[..., 1:]
        return [
            select_boxes(*own, threshold, suppression, limit)
            for own in zip(boxes, scores, strict=True)
        ]


def default_boxes(shapes: list[tuple[int, int]], size: tuple[int, int], image_size: int) -> Tensor:
    """The default boxes (A, 4) of maps of these heights and widths, map by map and cell by cell.

    `size` is the image's height and width, over which the centers are spread evenly; the boxes'
    sides are fractions of `image_size` (Liu et al. 2016, section 2.2). The first box of a cell is
    the square of the map's scale s, the second the square of sqrt(s * the next map's scale), then
    for each ratio r a box of s * sqrt(r) by s / sqrt(r), and one of s / sqrt(r) by s * sqrt(r).
    """
    maps = []
    for (rows, columns), ratios, scale, following in zip(
        shapes, RATIOS, SCALES[:-1], SCALES[1:], strict=True
    ):
        sides = [(scale, scale), ((scale * following) ** 0.5,) * 2]
        for ratio in ratios:
            root = ratio**0.5
            sides += [(scale * root, scale / root), (scale / root, scale * root)]
        halves = image_size * torch.tensor(sides) / 2  # (K, 2)
        y = (torch.arange(rows) + 0.5) * size[0] / rows
        x = (torch.arange(columns) + 0.5) * size[1] / columns
        centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 1, 2)
        maps.append(torch.cat([centers - halves, centers + halves], dim=-1).reshape(-1, 4))
    return torch.cat(maps)
