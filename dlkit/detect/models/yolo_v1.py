"""YOLO as it was first published: one coarse grid that sees the whole image.

Shapes: B images, C labels, a grid of GRID x GRID cells with BOXES boxes each.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.detect.boxes import Suppression
from dlkit.detect.models.detector import GRAY, Found, best_of, channels_at, maps_at

GRID, BOXES = 7, 2
STRIDE = 32  # of the backbone's map
HIDDEN = 1024  # units of the first fully connected layer; the paper's network is wider, with 4096


class Cells(NamedTuple):
    """What YOLO v1 says of each cell.

    boxes (B, 7, 7, 2, 4): the center's x and y as shares of the cell, and the square roots of
    width and height as shares of the image; confidences (B, 7, 7, 2); the probability of each
    label if there is an object, (B, 7, 7, C). All are outputs of a linear layer.
    """

    boxes: Tensor
    confidence: Tensor
    labels: Tensor


class YoloV1(nn.Module):
    """You Only Look Once (Redmon et al. 2016, section 2) on a network of `dlkit.classify`.

    Four convolutions and two fully connected layers follow the backbone, leaky but for the last
    layer, which is linear; half of the hidden units drop out in training. The image is a square of
    448 pixels a side, or of 224 if `image_size` is nearer to that: the convolutions then have no
    stride. What differs: the backbone, and that the layers after it are narrower.
    """

    def __init__(self, num_labels: int, image_size: int, backbone: dict[str, Any]) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.side = STRIDE * GRID * (2 if image_size > 1.5 * STRIDE * GRID else 1)
        self.backbone = backbones.build(backbone)
        (width,) = channels_at((STRIDE,), self.backbone)
        layers: list[nn.Module] = []
        for stride in (1, self.side // (STRIDE * GRID), 1, 1):
            layers += [nn.Conv2d(width, width, 3, stride, padding=1), nn.LeakyReLU(0.1)]
        layers += [nn.Flatten(), nn.Linear(GRID * GRID * width, HIDDEN), nn.LeakyReLU(0.1)]
        for layer in layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
        last = nn.Linear(HIDDEN, GRID * GRID * (BOXES * 5 + num_labels))
        nn.init.normal_(last.weight, std=0.01)  # small answers at first, as most targets are 0
        self.head = nn.Sequential(*layers, nn.Dropout(), last)

    def forward(self, images: Tensor) -> Cells:
        """What each cell says of uint8 images (B, 3, H, W), the upper left of a square."""
        (features,) = maps_at((STRIDE,), self.backbone, squared(images, self.side))
        said = self.head(features).float().view(len(images), GRID, GRID, -1)
        boxes, confidence, labels = said.split([BOXES * 4, BOXES, self.num_labels], dim=-1)
        return Cells(boxes.unflatten(-1, (BOXES, 4)), confidence, labels)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[Found]:
        """The objects of each image that score at least `threshold`, best first."""
        cells = self(images)
        boxes = corners(cells.boxes) * max(images.shape[-2:])
        # Pr(label | object) * Pr(object) * IoU (eq. 1)
        scores = cells.confidence.clamp(0, 1)[..., None] * cells.labels.clamp(0, 1)[..., None, :]
        return [
            best_of(*own, threshold, suppression, limit)
            for own in zip(boxes.flatten(1, 3), scores.flatten(1, 3), strict=True)
        ]

    def prepare(self, dtype: torch.dtype) -> None:
        """For inference: fold each normalization into its convolution, weights in `dtype`."""
        self.backbone.fuse()
        self.to(dtype)


def corners(boxes: Tensor) -> Tensor:
    """Boxes (..., 7, 7, 2, 4) of cells as x1, y1, x2, y2 in shares of the image."""
    row, column = torch.meshgrid(*[torch.arange(GRID, device=boxes.device)] * 2, indexing="ij")
    cells = torch.stack([column, row], dim=-1)[:, :, None]
    centers = (cells + boxes[..., :2]) / GRID
    half = boxes[..., 2:].square() / 2
    return torch.cat([centers - half, centers + half], dim=-1)


def squared(images: Tensor, side: int) -> Tensor:
    """Images (B, 3, H, W) with a gray border right and below, as squares of `side` pixels."""
    height, width = images.shape[-2:]
    most = max(height, width)
    square = F.pad(images, (0, most - width, 0, most - height), value=GRAY)
    if most == side:
        return square
    return F.interpolate(square.float(), (side, side), mode="bilinear", antialias=True)
