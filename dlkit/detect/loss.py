"""What the detectors are trained to minimize.

Shapes: B images, N objects (padded, label -1), A cells, C labels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import complete_iou, iou
from dlkit.detect.losses.localize import localize_losses
from dlkit.detect.losses.regions import fast_rcnn_losses, rcnn_losses
from dlkit.detect.losses.sliding_window import sliding_window_losses
from dlkit.detect.losses.ssd import ssd_losses
from dlkit.detect.losses.yolo_v1 import yolo_v1_losses
from dlkit.detect.models.yolo import Grids

CANDIDATES = 10  # cells an object is assigned to, at most
BOX_WEIGHT, CONFIDENCE_WEIGHT, LABEL_WEIGHT = 2.5, 1.0, 1.0


class Assignment(NamedTuple):
    """Which cell answers for which object: mask (B, A), object index (B, A), target (B, A)."""

    responsible: Tensor
    objects: Tensor
    confidence: Tensor


@torch.no_grad()
def assign(grids: Grids, boxes: Tensor, labels: Tensor) -> Assignment:
    """Task-aligned assignment (Feng et al. 2021, section 3.2) of boxes (B, N, 4) to cells.

    Of the cells whose center lies in an object's box, the ones that score and overlap best
    answer for it, measured by score * IoU^6. A cell wanted by several objects takes the one it
    overlaps most. The target of the confidence is that measure, scaled in each object to
    its largest IoU.
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

    # Unlike the paper, every cell inside keeps a chance at the start, when all alignments vanish.
    ranking = torch.where(inside & present[:, :, None], alignment + 1e-12 * overlaps + 1e-20, 0.0)
    best = ranking.topk(min(CANDIDATES, ranking.shape[-1]), dim=-1)
    chosen = torch.zeros_like(inside).scatter_(2, best.indices, best.values > 0)
    objects = torch.where(chosen, overlaps, -1.0).argmax(dim=1)  # (B, A)
    responsible = chosen.any(dim=1)
    mine = F.one_hot(objects, boxes.shape[1]).transpose(1, 2).bool() & responsible[:, None]

    alignment = alignment * mine
    largest = alignment.amax(dim=-1, keepdim=True).clamp(min=1e-12)
    best_overlap = (overlaps * mine).amax(dim=-1, keepdim=True)
    target = (alignment / largest * best_overlap).amax(dim=1)
    return Assignment(responsible, objects, target)


def yolo_losses(
    network: nn.Module,
    images: Tensor,
    boxes: Tensor,
    labels: Tensor,
    taught: Grids | None = None,
) -> dict[str, Tensor]:
    """Losses of the confidences, of the boxes and of the labels, per object of the batch.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N) with -1 for padding. If a
    teacher's answer comes along, there are its losses besides.
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
    return losses if taught is None else losses | distillation_losses(grids, taught)


def distillation_losses(grids: Grids, taught: Grids) -> dict[str, Tensor]:
    """What a teacher's answer on the same images adds (Mehta and Ozturk 2018, section 3).

    Its confidences are the goals of the confidences, and weigh how much its boxes and its
    probabilities of labels (Hinton et al. 2015) count in a cell; per object that it sees.
    """
    weights = taught.confidence.sigmoid()
    total = weights.sum().clamp(min=1.0)
    confidence = F.binary_cross_entropy_with_logits(grids.confidence, weights, reduction="sum")
    overlap = complete_iou(grids.boxes, taught.boxes)
    divergence = F.kl_div(
        grids.labels.log_softmax(dim=-1),
        taught.labels.log_softmax(dim=-1),
        reduction="none",
        log_target=True,
    ).sum(dim=-1)
    return {
        "taught_confidence": CONFIDENCE_WEIGHT * confidence / total,
        "taught_boxes": BOX_WEIGHT * ((1 - overlap) * weights).sum() / total,
        "taught_labels": LABEL_WEIGHT * (divergence * weights).sum() / total,
    }


def torchvision_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The losses that torchvision's networks return. Takes what `yolo_losses` takes."""
    losses: dict[str, Tensor] = network(images, boxes, labels)
    return losses


LOSSES: dict[str, Callable[..., dict[str, Tensor]]] = {
    "yolo": yolo_losses,
    "yolo-v1": yolo_v1_losses,
    "ssd": ssd_losses,
    "retinanet": torchvision_losses,
    "fcos": torchvision_losses,
    "fasterrcnn": torchvision_losses,
    "rcnn": rcnn_losses,
    "fast-rcnn": fast_rcnn_losses,
    "sliding-window": sliding_window_losses,
    "localize": localize_losses,
}
