"""Boxes as x1, y1, x2, y2 in pixels: overlap, suppression."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from dlkit.core.errors import DlkitError
from dlkit.detect.config import Nms

MOST_CANDIDATES = 5000
LARGEST_GROWTH = math.log(1000 / 16)  # of a side, as a logarithm, so that no box is infinite


class Suppression(NamedTuple):
    """What becomes of boxes of a label that overlap: of any label, if `agnostic`.

    hard: of two that overlap more than `iou`, the better stays, best first. weighted: the one that
    stays becomes the mean of itself and of those it puts out, weighted by score (Ning et al. 2017).
    soft-linear: the other's score falls to its share 1 - IoU, where they overlap at least `iou`
    (Bodla et al. 2017, eq. 2); soft-gaussian: to exp(-IoU^2 / sigma), at any overlap (eq. 3).
    """

    kind: Nms = "hard"
    iou: float = 0.5
    sigma: float = 0.5
    agnostic: bool = False


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


def suppressed(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes (N, 4), scores (N,) and labels (N,) that are left, best first, at most `limit`.

    The scores given are at least `threshold`; a box that soft suppression takes below it goes.
    """
    # Suppression is quadratic in its candidates.
    candidates = scores.topk(min(len(scores), MOST_CANDIDATES)).indices
    boxes, scores, labels = boxes[candidates], scores[candidates], labels[candidates]
    rivals = torch.zeros_like(labels) if suppression.agnostic else labels
    if suppression.kind in ("soft-linear", "soft-gaussian"):
        kept, scores = softly_kept(boxes, scores, rivals, threshold, suppression, limit)
        return boxes[kept], scores, labels[kept]
    kept = batched_nms(boxes, scores, rivals, suppression.iou)[:limit]
    if suppression.kind == "weighted":
        return (
            weighted_means(boxes, scores, rivals, kept, suppression.iou),
            scores[kept],
            labels[kept],
        )
    return boxes[kept], scores[kept], labels[kept]


def softly_kept(
    boxes: Tensor,
    scores: Tensor,
    rivals: Tensor,
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Indices of the boxes left, and their scores, which those before them have lowered."""
    kept, final = [], []
    left = scores.clone()
    for _ in range(min(limit, len(boxes))):
        best = int(left.argmax())
        score = float(left[best])
        if score < threshold:
            break
        kept.append(best)
        final.append(score)
        overlap = iou(boxes[best], boxes)
        if suppression.kind == "soft-linear":
            decay = torch.where(overlap >= suppression.iou, 1 - overlap, 1.0)
        else:
            decay = torch.exp(-overlap.square() / suppression.sigma)
        left *= torch.where(rivals == rivals[best], decay, 1.0)
        left[kept] = -1.0
    return torch.tensor(kept, dtype=torch.long, device=boxes.device), scores.new_tensor(final)


def weighted_means(
    boxes: Tensor, scores: Tensor, rivals: Tensor, kept: Tensor, iou_threshold: float
) -> Tensor:
    """For each kept box the mean of itself and of those it put out, weighted by score."""
    overlaps = (iou(boxes[kept, None], boxes) > iou_threshold) & (rivals[kept, None] == rivals)
    overlaps[:, kept] = torch.eye(len(kept), dtype=torch.bool, device=kept.device)
    # A box that several overlap was put out by the first of them.
    first = overlaps & (overlaps.cumsum(dim=0) == 1)
    weights = first * scores
    return weights @ boxes / weights.sum(dim=1, keepdim=True)


def suppression_of(
    kind: Nms, iou: float | None, sigma: float | None, agnostic: bool
) -> Suppression:
    """What the options say, those not given at their defaults; a DlkitError if one has no use."""
    if iou is not None and kind == "soft-gaussian":
        raise DlkitError(
            "--iou is for hard, soft-linear and weighted suppression, not --nms soft-gaussian"
        )
    if sigma is not None and kind != "soft-gaussian":
        raise DlkitError(f"--sigma is for --nms soft-gaussian, not {kind}")
    plain = Suppression()
    return Suppression(
        kind,
        plain.iou if iou is None else iou,
        plain.sigma if sigma is None else sigma,
        agnostic,
    )


def encode(boxes: Tensor, references: Tensor) -> Tensor:
    """Offsets (..., 4) that lead from references to boxes: Girshick et al. 2014, eq. 6 to 9.

    The way between the centers as a share of the reference's size, and the logarithms of how much
    wider and higher the box is.
    """
    centers, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    from_centers = (references[..., :2] + references[..., 2:]) / 2
    from_sizes = references[..., 2:] - references[..., :2]
    return torch.cat([(centers - from_centers) / from_sizes, (sizes / from_sizes).log()], dim=-1)


def decode(offsets: Tensor, references: Tensor) -> Tensor:
    """The boxes (..., 4) that offsets lead to from references (eq. 1 to 4); undoes `encode`."""
    from_centers = (references[..., :2] + references[..., 2:]) / 2
    from_sizes = references[..., 2:] - references[..., :2]
    centers = from_centers + offsets[..., :2] * from_sizes
    half = from_sizes * offsets[..., 2:].clamp(max=LARGEST_GROWTH).exp() / 2
    return torch.cat([centers - half, centers + half], dim=-1)
