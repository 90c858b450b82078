"""YOLO v1: one coarse grid of cells that see the whole image.

Shapes: B images, C labels, a grid of GRID x GRID cells with BOXES boxes each.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.detect.models.detector import (
    GRAY,
    BackboneDetector,
    ScoredBoxes,
    channels_at,
    maps_at,
    select_boxes,
)
from dlkit.detect.options import Suppression

GRID, BOXES = 7, 2
STRIDE = 32  # of the backbone's map
HIDDEN = 1024  # units of the first fully connected layer; the paper's network is wider, with 4096


class Cells(NamedTuple):
    """Outputs for each cell.

    boxes (B, 7, 7, 2, 4): the center's x and y as fractions of the cell, and the square roots of
    width and height as fractions of the image; confidences (B, 7, 7, 2); the probability of each
    label given an object, (B, 7, 7, C). All are outputs of a linear layer.
    """

    boxes: Tensor
    confidence: Tensor
    labels: Tensor


class YoloV1(BackboneDetector):
    """You Only Look Once (Redmon et al. 2016, section 2) on a backbone of `dlkit.classify`.

    Four convolutions and two fully connected layers follow the backbone, with leaky ReLUs except
    after the last layer; dropout of half of the hidden units. The image is scaled to a square of
    448 pixels, or of 224 if `image_size` is nearer to that: the convolutions then have no stride.
    Differences from the paper: the backbone, and narrower layers after it.
    """

    def __init__(
        self, num_labels: int, image_size: int, backbone: backbones.BackboneSettings
    ) -> None:
        super().__init__(backbone)
        self.num_labels = num_labels
        self.side = STRIDE * GRID * (2 if image_size > 1.5 * STRIDE * GRID else 1)
        (width,) = channels_at((STRIDE,), self.backbone)
        layers: list[nn.Module] = []
        for stride in (1, self.side // (STRIDE * GRID), 1, 1):
            layers += [nn.Conv2d(width, width, 3, stride, padding=1), nn.LeakyReLU(0.1)]
        layers += [nn.Flatten(), nn.Linear(GRID * GRID * width, HIDDEN), nn.LeakyReLU(0.1)]
        for layer in layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
        last = nn.Linear(HIDDEN, GRID * GRID * (BOXES * 5 + num_labels))
        nn.init.normal_(last.weight, std=0.01)  # small outputs at first, as most targets are 0
        self.head = nn.Sequential(*layers, nn.Dropout(), last)

    def forward(self, images: Tensor) -> Cells:
        """The outputs for uint8 images (B, 3, H, W), which are padded to squares."""
        (features,) = maps_at((STRIDE,), self.backbone, pad_to_square(images, self.side))
        outputs = self.head(features).float().view(len(images), GRID, GRID, -1)
        boxes, confidence, labels = outputs.split([BOXES * 4, BOXES, self.num_labels], dim=-1)
        return Cells(boxes.unflatten(-1, (BOXES, 4)), confidence, labels)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        """The objects of each image that score at least `threshold`, best first."""
        cells = self(images)
        boxes = corners(cells.boxes) * max(images.shape[-2:])
        # Pr(label | object) * Pr(object) * IoU (eq. 1)
        scores = cells.confidence.clamp(0, 1)[..., None] * cells.labels.clamp(0, 1)[..., None, :]
        return [
            select_boxes(*own, threshold, suppression, limit)
            for own in zip(boxes.flatten(1, 3), scores.flatten(1, 3), strict=True)
        ]


def corners(boxes: Tensor) -> Tensor:
    """Decode boxes (..., 7, 7, 2, 4) of cells to x1, y1, x2, y2 in fractions of the image."""
    row, column = torch.meshgrid(*[torch.arange(GRID, device=boxes.device)] * 2, indexing="ij")
    cells = torch.stack([column, row], dim=-1)[:, :, None]
    centers = (cells + boxes[..., :2]) / GRID
    half = boxes[..., 2:].square() / 2
    return torch.cat([centers - half, centers + half], dim=-1)


def pad_to_square(images: Tensor, side: int) -> Tensor:
    """Pad images (B, 3, H, W) with gray on the right and below, and scale the squares to `side`."""
    height, width = images.shape[-2:]
    longest = max(height, width)
    square = F.pad(images, (0, longest - width, 0, longest - height), value=GRAY)
    if longest == side:
        return square
    return F.interpolate(square.float(), (side, side), mode="bilinear", antialias=True)
