"""What the localizers learn: the label and the box of the largest object, or its keypoints.

Shapes: B images, N objects (padded, label -1), K keypoints.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import area
from dlkit.detect.models.localize import Answer


def localize_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor, alpha: float
) -> dict[str, Tensor]:
    """alpha S + (1 - alpha) R: S the cross-entropy of the label, R the square error of the box.

    uint8 images (B, 3, S, S), boxes (B, N, 4) in pixels, labels (B, N). Of the objects of an
    image the largest counts; an image without any counts nothing.
    """
    answer: Answer = network(images)
    largest = torch.where(labels >= 0, area(boxes), -1.0).argmax(dim=1)
    rows = torch.arange(len(images), device=labels.device)
    label, box = labels[rows, largest], boxes[rows, largest] / images.shape[-1]
    there = label >= 0
    count = there.sum().clamp(min=1)
    cross_entropy = F.cross_entropy(answer.labels[there], label[there], reduction="sum")
    off = (answer.boxes - box)[there].square().sum()
    return {"labels": alpha * cross_entropy / count, "boxes": (1 - alpha) * off / count}


def keypoint_loss(network: nn.Module, images: Tensor, points: Tensor) -> Tensor:
    """The mean square distance (Toshev and Szegedy 2014, eq. 4) of the annotated keypoints.

    uint8 images (B, 3, S, S), points (B, K, 2) in pixels, nan where one is not annotated;
    distances are shares of S.
    """
    there = ~points.isnan().any(dim=2)
    off = (network(images) - points / images.shape[-1])[there]
    return off.square().sum() / there.sum().clamp(min=1)
