"""YOLO, a single-shot detector on three grids.

Shapes: B images, C labels, A cells over all grids.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.detect.boxes import suppress
from dlkit.detect.models.detector import ConvBlock, ScoredBoxes, channels_at, fuse_blocks, maps_at
from dlkit.detect.options import Suppression

STRIDES = (8, 16, 32)
WIDTHS = {"nano": 8, "small": 16, "medium": 24}


class Grids(NamedTuple):
    """Outputs for each cell, the cells of the three grids one after the other.

    boxes (B, A, 4), confidence logits (B, A), label logits (B, A, C), cell centers (A, 2).
    """

    boxes: Tensor
    confidence: Tensor
    labels: Tensor
    centers: Tensor


class ResidualBlock(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ConvBlock(width, width), ConvBlock(width, width))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.blocks(x)
        return x + residual


class Stage(nn.Sequential):
    """A convolution of stride 2, then residual blocks."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__(
            ConvBlock(inputs, outputs, stride=2), *(ResidualBlock(outputs) for _ in range(blocks))
        )


class Merge(nn.Sequential):
    """Merge concatenated maps into one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(ConvBlock(inputs, outputs, kernel=1), ResidualBlock(outputs))

    def forward(self, *maps: Tensor) -> Tensor:
        x = torch.cat(maps, dim=1)
        for block in self:
            x = block(x)
        return x


class PyramidPooling(nn.Module):
    """Spatial pyramid pooling: the map and its maxima over 5, 9 and 13 cells (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = ConvBlock(inputs, outputs // 2, kernel=1)
        self.merge = ConvBlock(2 * outputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.reduce(x)]
        for _ in range(3):
            maps.append(F.max_pool2d(maps[-1], 5, stride=1, padding=2))
        pooled: Tensor = self.merge(torch.cat(maps, dim=1))
        return pooled


class Head(nn.Module):
    """The outputs of one grid: confidence and labels from one branch, boxes from another."""

    def __init__(self, inputs: int, width: int, num_labels: int) -> None:
        super().__init__()
        self.label_branch = ConvBlock(inputs, width)
        self.box_branch = ConvBlock(inputs, width)
        self.labels = nn.Conv2d(width, 1 + num_labels, 1)
        self.sides = nn.Conv2d(width, 4, 1)
        # Almost every cell is background, so start at a confidence near 0.01.
        self.labels.bias = nn.Parameter(torch.tensor([-4.6] + [0.0] * num_labels))
        # Start with boxes of about four cells.
        self.sides.bias = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, H * W, 1 + C) and sides in cells (B, H * W, 4)."""
        logits = self.labels(self.label_branch(x)).float().flatten(2).transpose(1, 2)
        sides = self.sides(self.box_branch(x)).float().flatten(2).transpose(1, 2)
        return logits, F.softplus(sides)


class Yolo(nn.Module):
    """A single-shot detector: one pass scores every cell of a grid (Redmon et al. 2016).

    As in the paper, each cell predicts a box, a confidence Pr(object) * IoU, and conditional
    class probabilities Pr(class | object); the score of a detection is their product (eq. 1).
    Differences from the paper, which are known to help: three grids (strides 8, 16, 32) on a
    feature pyramid (Lin et al. 2017; Liu et al. 2018) instead of one of 7 x 7; one box per cell,
    given by its distances from the cell's center (Tian et al. 2019), instead of two;
    cross-entropies and the complete IoU instead of squared errors; task-aligned assignment (Feng
    et al. 2021) instead of the one responsible cell; residual blocks with batch normalization, and
    no fully connected layer, so any image size whose sides divide by 32. `backbone`, the settings
    of a backbone of `dlkit.classify`, replaces the first stages.
    """

    def __init__(
        self,
        num_labels: int,
        size: str = "small",
        backbone: backbones.BackboneSettings | None = None,
    ) -> None:
        super().__init__()
        w = WIDTHS[size]
        self.backbone = None if backbone is None else backbones.build(backbone)
        if self.backbone is None:
            fine, middle, coarse = 4 * w, 8 * w, 12 * w
            self.stem = nn.Sequential(ConvBlock(3, w, stride=2), Stage(w, 2 * w, 1))
            self.stage3 = Stage(2 * w, fine, 2)
            self.stage4 = Stage(fine, middle, 2)
            self.stage5 = Stage(middle, coarse, 1)
        else:
            fine, middle, coarse = channels_at(STRIDES, self.backbone)
        self.pool = PyramidPooling(coarse, 8 * w)
        self.up4 = Merge(8 * w + middle, 8 * w)
        self.narrow = ConvBlock(8 * w, 4 * w, kernel=1)
        self.up3 = Merge(4 * w + fine, 4 * w)
        self.from3 = ConvBlock(4 * w, 4 * w, stride=2)
        self.down4 = Merge(12 * w, 8 * w)
        self.from4 = ConvBlock(8 * w, 8 * w, stride=2)
        self.down5 = Merge(16 * w, 8 * w)
        self.heads = nn.ModuleList(
            Head(inputs, 4 * w, num_labels) for inputs in (4 * w, 8 * w, 8 * w)
        )

    def forward(self, images: Tensor) -> Grids:
        """The outputs for uint8 images (B, 3, H, W) with sides divisible by 32."""
        c3, c4, c5 = self.first_maps(images)
        c5 = self.pool(c5)
        p4 = self.up4(F.interpolate(c5, scale_factor=2.0), c4)
        p3 = self.up3(F.interpolate(self.narrow(p4), scale_factor=2.0), c3)
        p4 = self.down4(self.from3(p3), p4)
        p5 = self.down5(self.from4(p4), c5)

        logits, boxes, centers = [], [], []
        for head, stride, features in zip(self.heads, STRIDES, (p3, p4, p5), strict=True):
            level_logits, sides = head(features)
            middles = cell_centers(features.shape[-2], features.shape[-1], stride, images.device)
            left_up, right_down = (sides * stride).split(2, dim=-1)
            boxes.append(torch.cat([middles - left_up, middles + right_down], dim=-1))
            logits.append(level_logits)
            centers.append(middles)
        scores = torch.cat(logits, dim=1)
        confidence, labels = scores[..., 0], scores[..., 1:]
        return Grids(torch.cat(boxes, dim=1), confidence, labels, torch.cat(centers))

    def first_maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The feature maps at STRIDES, before they are merged."""
        if self.backbone is not None:
            c3, c4, c5 = maps_at(STRIDES, self.backbone, images)
            return c3, c4, c5
        dtype = next(self.parameters()).dtype
        x = images.to(dtype, memory_format=torch.channels_last)
        c3 = self.stage3(self.stem((x - 114) / 58))
        c4 = self.stage4(c3)
        return c3, c4, self.stage5(c4)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The objects of each image that score at least `threshold`, best first."""
        threshold = max(threshold, 1e-6)
        grids = self(images)
        # No score is above its confidence, so most cells are dropped before the softmax.
        confidence = grids.confidence.sigmoid()
        image, cell = (confidence >= threshold).nonzero(as_tuple=True)
        scores = confidence[image, cell, None] * grids.labels[image, cell].softmax(dim=-1)
        # A cell may have several labels above the threshold; its box then competes in each class.
        row, label = (scores >= threshold).nonzero(as_tuple=True)
        boxes, scores = grids.boxes[image[row], cell[row]], scores[row, label]
        sizes = image[row].bincount(minlength=len(images)).tolist()
        found = []
        for own in zip(boxes.split(sizes), scores.split(sizes), label.split(sizes), strict=True):
            found.append(ScoredBoxes(*suppress(*own, threshold, suppression, limit)))
        return found

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: fold each normalization into its convolution, weights in `dtype`."""
        fuse_blocks(self)
        if self.backbone is not None:
            self.backbone.fuse()
        self.to(dtype)


def cell_centers(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Centers (height * width, 2) of a grid's cells, in pixels, row by row."""
    y = (torch.arange(height, device=device) + 0.5) * stride
    x = (torch.arange(width, device=device) + 0.5) * stride
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
