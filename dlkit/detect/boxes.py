"""Boxes as x1, y1, x2, y2 in pixels: overlap, suppression."""

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms

MOST_CANDIDATES = 5000


def area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(
        min=0
    )


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common area of boxes that broadcast against each other, (..., 4) each."""
    left_top = torch.maximum(a[..., :2], b[..., :2])
    right_bottom = torch.minimum(a[..., 2:], b[..., 2:])
    return (right_bottom - left_top).clamp(min=0).prod(dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast against each other, (..., 4) each."""
    common = intersection(a, b)
    return common / (area(a) + area(b) - common).clamp(min=1e-9)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less the penalties for distance and for a wrong shape (Zheng et al. 2020, eq. 9-11)."""
    overlap = iou(a, b)
    enclosing = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    diagonal = enclosing.square().sum(dim=-1).clamp(min=1e-9)
    centers = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = centers.square().sum(dim=-1) / diagonal
    size_a, size_b = (
        (a[..., 2:] - a[..., :2]).clamp(min=1e-3),
        (b[..., 2:] - b[..., :2]).clamp(min=1e-3),
    )
    angle = torch.atan(size_a[..., 0] / size_a[..., 1]) - torch.atan(
        size_b[..., 0] / size_b[..., 1]
    )
    shape = (4 / math.pi**2) * angle.square()
    with torch.no_grad():
        weight = shape / (1 - overlap + shape).clamp(min=1e-9)
    return overlap - distance - weight * shape


def best_boxes(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, limit: int
) -> Tensor:
    """Indices of the boxes left by non-maximum suppression in each class, best first."""
    # Suppression is quadratic in its candidates.
    candidates = scores.topk(min(len(scores), MOST_CANDIDATES)).indices
    kept = batched_nms(boxes[candidates], scores[candidates], labels[candidates], iou_threshold)
    return candidates[kept[:limit]]
