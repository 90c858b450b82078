"""Boxes as x1, y1, x2, y2 in pixels: overlap, non-maximum suppression, offsets."""

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from dlkit.detect.options import Suppression

MAX_CANDIDATES = 5000
MAX_LOG_GROWTH = math.log(1000 / 16)  # of a side, so that no box is infinite


def area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(
        min=0
    )


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Area of the intersection of boxes that broadcast against each other, (..., 4) each."""
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


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply non-maximum suppression to boxes (N, 4), scores (N,) and labels (N,).

    Returns the same three tensors of the kept boxes, best first, at most `limit`. The scores passed
    in are at least `threshold`; soft suppression removes a box whose score falls below it.
    """
    # Suppression takes quadratic time in the number of candidates.
    candidates = scores.topk(min(len(scores), MAX_CANDIDATES)).indices
    boxes, scores, labels = boxes[candidates], scores[candidates], labels[candidates]
    groups = torch.zeros_like(labels) if suppression.agnostic else labels
    if suppression.kind in ("soft-linear", "soft-gaussian"):
        kept, scores = soft_nms(boxes, scores, groups, threshold, suppression, limit)
        return boxes[kept], scores, labels[kept]
    kept = batched_nms(boxes, scores, groups, suppression.iou)[:limit]
    if suppression.kind == "weighted":
        return (
            average_overlapping(boxes, scores, groups, kept, suppression.iou),
            scores[kept],
            labels[kept],
        )
    return boxes[kept], scores[kept], labels[kept]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS: the indices of the kept boxes, best first, and their decayed scores."""
    kept, final = [], []
    decayed = scores.clone()
    for _ in range(min(limit, len(boxes))):
        best = int(decayed.argmax())
        score = float(decayed[best])
        if score < threshold:
            break
        kept.append(best)
        final.append(score)
        overlap = iou(boxes[best], boxes)
        if suppression.kind == "soft-linear":
            decay = torch.where(overlap >= suppression.iou, 1 - overlap, 1.0)
        else:
            decay = torch.exp(-overlap.square() / suppression.sigma)
        decayed *= torch.where(groups == groups[best], decay, 1.0)
        decayed[kept] = -1.0
    return torch.tensor(kept, dtype=torch.long, device=boxes.device), scores.new_tensor(final)


def average_overlapping(
    boxes: Tensor, scores: Tensor, groups: Tensor, kept: Tensor, iou_threshold: float
) -> Tensor:
    """The mean of each kept box and of the boxes it suppressed, weighted by score."""
    overlaps = (iou(boxes[kept, None], boxes) > iou_threshold) & (groups[kept, None] == groups)
    overlaps[:, kept] = torch.eye(len(kept), dtype=torch.bool, device=kept.device)
    # A box that overlaps several kept ones was suppressed by the first of them.
    first = overlaps & (overlaps.cumsum(dim=0) == 1)
    weights = first * scores
    return weights @ boxes / weights.sum(dim=1, keepdim=True)


def encode(boxes: Tensor, references: Tensor) -> Tensor:
    """Offsets (..., 4) from references to boxes: Girshick et al. 2014, eq. 6 to 9.

    The distance between the centers, as a fraction of the reference's size, and the logarithms of
    the ratios of widths and of heights.
    """
    centers, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    from_centers = (references[..., :2] + references[..., 2:]) / 2
    from_sizes = references[..., 2:] - references[..., :2]
    return torch.cat([(centers - from_centers) / from_sizes, (sizes / from_sizes).log()], dim=-1)


def decode(offsets: Tensor, references: Tensor) -> Tensor:
    """Apply offsets to references: boxes (..., 4), the inverse of `encode` (eq. 1 to 4)."""
    from_centers = (references[..., :2] + references[..., 2:]) / 2
    from_sizes = references[..., 2:] - references[..., :2]
    centers = from_centers + offsets[..., :2] * from_sizes
    half = from_sizes * offsets[..., 2:].clamp(max=MAX_LOG_GROWTH).exp() / 2
    return torch.cat([centers - half, centers + half], dim=-1)
