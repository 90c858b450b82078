"""The losses of `yolo-v1` (Redmon et al. 2016, section 2.2, eq. 3).

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
    """Targets of the cells, and the mask of the boxes that are responsible for an object.

    responsible (B, 7, 7, 2), boxes (B, 7, 7, 4) encoded as in `Cells`, overlap (B, 7, 7, 2) of
    each box with the cell's object, labels (B, 7, 7) with -1 for no object.
    """

    responsible: Tensor
    boxes: Tensor
    overlap: Tensor
    labels: Tensor


@torch.no_grad()
def assign_targets(cells: Cells, boxes: Tensor, labels: Tensor) -> Targets:
    """Assign each object to the cell of its center, and to that cell's box of highest IoU.

    `boxes` (B, N, 4) are fractions of the image. A cell has one set of label scores, so of several
    objects it takes the largest.
    """
    shape = cells.labels.shape[:3]
    centers = GRID * (boxes[..., :2] + boxes[..., 2:]) / 2
    places = centers.long().clamp(0, GRID - 1)  # column, row
    own = torch.cat([centers - places, (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).sqrt()], -1)
    encoded, whole = boxes.new_zeros(*shape, 4), boxes.new_zeros(*shape, 4)
    cell_labels = labels.new_full(shape, -1)
    # The largest objects come last and overwrite the others.
    image, index = (labels >= 0).nonzero(as_tuple=True)
    for order in area(boxes[image, index]).argsort().tolist():
        b, n = image[order], index[order]
        column, row = places[b, n]
        encoded[b, row, column], whole[b, row, column] = own[b, n], boxes[b, n]
        cell_labels[b, row, column] = labels[b, n]
    overlap = iou(corners(cells.boxes), whole[..., None, :])
    best = F.one_hot(overlap.argmax(dim=-1), BOXES).bool()
    return Targets(best & (cell_labels >= 0)[..., None], encoded, overlap, cell_labels)


def yolo_v1_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The terms of eq. 3: squared errors per image; the target of the confidence is the IoU.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N) with -1 for padding.
    """
    cells: Cells = network(images)
    targets = assign_targets(cells, boxes / max(images.shape[-2:]), labels)
    responsible, has_object = targets.responsible, targets.labels >= 0
    errors = (cells.boxes - targets.boxes[..., None, :])[responsible].square()
    confidence = cells.confidence
    label_targets = F.one_hot(targets.labels[has_object], cells.labels.shape[-1])
    parts = {
        "centers": COORDINATES * errors[:, :2].sum(),
        "sizes": COORDINATES * errors[:, 2:].sum(),
        "objects": (confidence - targets.overlap)[responsible].square().sum(),
        "background": NO_OBJECT * confidence[~responsible].square().sum(),
        "labels": (cells.labels[has_object] - label_targets).square().sum(),
    }
    return {name: part / len(images) for name, part in parts.items()}
