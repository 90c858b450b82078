"""The losses of `localize`: label and box of the largest object, or its keypoints.

Shapes: B images, N objects (padded, label -1), K keypoints.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import area
from dlkit.detect.models.localize import LocalizerOutput


def localize_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor, alpha: float
) -> dict[str, Tensor]:
    """alpha S + (1 - alpha) R: S the cross-entropy of the label, R the square error of the box.

    uint8 images (B, 3, S, S), boxes (B, N, 4) in pixels, labels (B, N). Only the largest object of
    an image is learned; an image without objects adds nothing.
    """
    output: LocalizerOutput = network(images)
    largest = torch.where(labels >= 0, area(boxes), -1.0).argmax(dim=1)
    rows = torch.arange(len(images), device=labels.device)
    label, box = labels[rows, largest], boxes[rows, largest] / images.shape[-1]
    present = label >= 0
    count = present.sum().clamp(min=1)
    cross_entropy = F.cross_entropy(output.labels[present], label[present], reduction="sum")
    error = (output.boxes - box)[present].square().sum()
    return {"labels": alpha * cross_entropy / count, "boxes": (1 - alpha) * error / count}


def keypoint_losses(network: nn.Module, images: Tensor, points: Tensor) -> dict[str, Tensor]:
    """Mean square distance (Toshev and Szegedy 2014, eq. 4) of the annotated keypoints.

    uint8 images (B, 3, S, S), points (B, K, 2) in pixels, nan if not annotated; distances are
    fractions of S.
    """
    present = ~points.isnan().any(dim=2)
    error = (network(images) - points / images.shape[-1])[present]
    return {"keypoints": error.square().sum() / present.sum().clamp(min=1)}
