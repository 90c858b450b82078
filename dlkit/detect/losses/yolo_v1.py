"""What YOLO v1 is trained to minimize (Redmon et al. 2016, section 2.2, eq. 3).

Shapes: B images, N objects (padded, label -1), C labels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import area, iou
from dlkit.detect.models.yolo_v1 import BOXES, GRID, Cells, corners

COORDINATES, NO_OBJECT = 5.0, 0.5  # the paper's lambdas


class Targets(NamedTuple):
    """What the cells should say, and which of their boxes is responsible for an object.

    responsible (B, 7, 7, 2), boxes (B, 7, 7, 4) in the cells' own terms, overlap (B, 7, 7, 2) of
    each box with the cell's object, labels (B, 7, 7) with -1 where there is none.
    """

    responsible: Tensor
    boxes: Tensor
    overlap: Tensor
    labels: Tensor


@torch.no_grad()
def targets_of(cells: Cells, boxes: Tensor, labels: Tensor) -> Targets:
    """Each object falls to the cell with its center, and there to the box that overlaps it most.

    `boxes` (B, N, 4) are shares of the image. A cell has one set of labels, so of several objects
    the largest is its own.
    """
    shape = cells.labels.shape[:3]
    centers = GRID * (boxes[..., :2] + boxes[..., 2:]) / 2
    places = centers.long().clamp(0, GRID - 1)  # column, row
    own = torch.cat([centers - places, (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).sqrt()], -1)
    goals, whole = boxes.new_zeros(*shape, 4), boxes.new_zeros(*shape, 4)
    of_cells = labels.new_full(shape, -1)
    # The largest come last, over the others.
    image, index = (labels >= 0).nonzero(as_tuple=True)
    for order in area(boxes[image, index]).argsort().tolist():
        b, n = image[order], index[order]
        column, row = places[b, n]
        goals[b, row, column], whole[b, row, column] = own[b, n], boxes[b, n]
        of_cells[b, row, column] = labels[b, n]
    overlap = iou(corners(cells.boxes), whole[..., None, :])
    best = F.one_hot(overlap.argmax(dim=-1), BOXES).bool()
    return Targets(best & (of_cells >= 0)[..., None], goals, overlap, of_cells)


def yolo_v1_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The terms of eq. 3, sums of squared errors an image; the confidence's goal is the IoU.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N) with -1 for padding.
    """
    cells: Cells = network(images)
    targets = targets_of(cells, boxes / max(images.shape[-2:]), labels)
    responsible, has_object = targets.responsible, targets.labels >= 0
    errors = (cells.boxes - targets.boxes[..., None, :])[responsible].square()
    confidence = cells.confidence
    right = F.one_hot(targets.labels[has_object], cells.labels.shape[-1])
    parts = {
        "centers": COORDINATES * errors[:, :2].sum(),
        "sizes": COORDINATES * errors[:, 2:].sum(),
        "objects": (confidence - targets.overlap)[responsible].square().sum(),
        "background": NO_OBJECT * confidence[~responsible].square().sum(),
        "labels": (cells.labels[has_object] - right).square().sum(),
    }
    return {name: part / len(images) for name, part in parts.items()}
