"""The losses of `yolo`, with knowledge distillation.

Shapes: B images, N objects (padded, label -1), A cells, C labels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import complete_iou, iou
from dlkit.detect.models.yolo import Grids

CANDIDATES = 10  # cells an object is assigned to, at most
BOX_WEIGHT, CONFIDENCE_WEIGHT, LABEL_WEIGHT = 2.5, 1.0, 1.0


class Assignment(NamedTuple):
    """Assignment of cells to objects: mask (B, A), object index (B, A), target (B, A)."""

    responsible: Tensor
    objects: Tensor
    confidence: Tensor


@torch.no_grad()
def assign(grids: Grids, boxes: Tensor, labels: Tensor) -> Assignment:
    """Task-aligned assignment (Feng et al. 2021, section 3.2) of boxes (B, N, 4) to cells.

    An object is assigned to the cells of highest alignment score * IoU^6 among those whose center
    lies in its box. A cell chosen by several objects takes the one it overlaps most. The target of
    the confidence is the alignment, scaled per object to its largest IoU.
    """
    present = labels >= 0
    overlaps = iou(boxes[:, :, None], grids.boxes[:, None])  # (B, N, A)
    scores = grids.confidence.sigmoid()[:, :, None] * grids.labels.softmax(dim=-1)
    index = labels.clamp(min=0)[:, None, :].expand(-1, scores.shape[1], -1)
    scores_of_label = scores.gather(2, index).transpose(1, 2)  # (B, N, A)

    left_up = grids.centers - boxes[:, :, None, :2]
    right_down = boxes[:, :, None, 2:] - grids.centers
    inside = torch.cat([left_up, right_down], dim=-1).amin(dim=-1) > 0
    alignment = scores_of_label * overlaps.pow(6) * inside * present[:, :, None]

    # Unlike in the paper, every cell inside can be chosen at the start, when all alignments vanish.
    ranking = torch.where(inside & present[:, :, None], alignment + 1e-12 * overlaps + 1e-20, 0.0)
    best = ranking.topk(min(CANDIDATES, ranking.shape[-1]), dim=-1)
    chosen = torch.zeros_like(inside).scatter_(2, best.indices, best.values > 0)
    objects = torch.where(chosen, overlaps, -1.0).argmax(dim=1)  # (B, A)
    responsible = chosen.any(dim=1)
    owned = F.one_hot(objects, boxes.shape[1]).transpose(1, 2).bool() & responsible[:, None]

    alignment = alignment * owned
    largest = alignment.amax(dim=-1, keepdim=True).clamp(min=1e-12)
    best_overlap = (overlaps * owned).amax(dim=-1, keepdim=True)
    target = (alignment / largest * best_overlap).amax(dim=1)
    return Assignment(responsible, objects, target)


def yolo_losses(
    network: nn.Module,
    images: Tensor,
    boxes: Tensor,
    labels: Tensor,
    teacher: Grids | None = None,
) -> dict[str, Tensor]:
    """Losses of confidences, boxes and labels, per object of the batch.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N) with -1 for padding. With
    the outputs of a teacher, the losses of distillation are added.
    """
    grids: Grids = network(images)
    assignment = assign(grids, boxes, labels)
    responsible = assignment.responsible
    total = assignment.confidence.sum().clamp(min=1.0)

    confidence = F.binary_cross_entropy_with_logits(
        grids.confidence, assignment.confidence, reduction="sum"
    )
    weights = assignment.confidence[responsible]
    image, _ = responsible.nonzero(as_tuple=True)
    objects = assignment.objects[responsible]
    overlap = complete_iou(grids.boxes[responsible], boxes[image, objects])
    cross_entropy = F.cross_entropy(
        grids.labels[responsible], labels[image, objects], reduction="none", label_smoothing=0.05
    )
    losses = {
        "confidence": CONFIDENCE_WEIGHT * confidence / total,
        "boxes": BOX_WEIGHT * ((1 - overlap) * weights).sum() / total,
        "labels": LABEL_WEIGHT * (cross_entropy * weights).sum() / total,
    }
    return losses if teacher is None else losses | distillation_losses(grids, teacher)


def distillation_losses(grids: Grids, teacher: Grids) -> dict[str, Tensor]:
    """Losses against a teacher's outputs on the same images (Mehta and Ozturk 2018, section 3).

    Its confidences are the targets of the confidences, and weight the losses of its boxes and of
    its label probabilities (Hinton et al. 2015) in each cell; per object of the teacher.
    """
    weights = teacher.confidence.sigmoid()
    total = weights.sum().clamp(min=1.0)
    confidence = F.binary_cross_entropy_with_logits(grids.confidence, weights, reduction="sum")
    overlap = complete_iou(grids.boxes, teacher.boxes)
    divergence = F.kl_div(
        grids.labels.log_softmax(dim=-1),
        teacher.labels.log_softmax(dim=-1),
        reduction="none",
        log_target=True,
    ).sum(dim=-1)
    return {
        "teacher_confidence": CONFIDENCE_WEIGHT * confidence / total,
        "teacher_boxes": BOX_WEIGHT * ((1 - overlap) * weights).sum() / total,
        "teacher_labels": LABEL_WEIGHT * (divergence * weights).sum() / total,
    }
