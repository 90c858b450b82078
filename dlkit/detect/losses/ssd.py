"""The losses of `ssd` (Liu et al. 2016, section 2.2).

Shapes: B images, N objects (padded, label -1), A default boxes, C labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import encode, iou
from dlkit.detect.models.ssd import VARIANCES, DefaultBoxes

OVERLAP = 0.5  # IoU above which a default box is matched to an object
NEGATIVES = 3  # hard ones for each matched box


@torch.no_grad()
def match(defaults: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Match default boxes to objects: indices (B, A) into boxes (B, N, 4), or -1.

    First each object takes the default box of highest IoU, in order of falling IoU; then each
    remaining default box takes the object of highest IoU, if that is above 0.5.
    """
    overlaps = iou(boxes[:, :, None], defaults) * (labels >= 0)[:, :, None]  # (B, N, A)
    best = overlaps.max(dim=1)
    matched = torch.where(best.values > OVERLAP, best.indices, -1)
    for own, present, taken in zip(overlaps, labels >= 0, matched, strict=True):
        objects = present.nonzero().flatten()
        free = own[objects]
        for _ in range(len(objects)):
            row, default = divmod(int(free.argmax()), free.shape[1])
            if free[row, default] > 0:  # otherwise it overlaps no box
                taken[default] = objects[row]
            free[row], free[:, default] = 0, 0
    return matched


def hard_negatives(losses: Tensor, positive: Tensor) -> Tensor:
    """Select the unmatched boxes (B, A) of largest losses, three per matched box of the image."""
    wanted = NEGATIVES * positive.sum(dim=1, keepdim=True)
    ranking = losses.masked_fill(positive, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    return (ranking < wanted) & ~positive


def ssd_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Cross-entropy of labels and smooth L1 loss of offsets, per matched box (eq. 1 to 3).

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N) with -1 for padding.
    """
    outputs: DefaultBoxes = network(images)
    matched = match(outputs.defaults, boxes, labels)
    positive = matched >= 0
    image, default = positive.nonzero(as_tuple=True)
    objects = matched[positive]
    total = max(1, len(objects))

    truth = torch.zeros_like(matched)  # the background
    truth[positive] = labels[image, objects] + 1
    entropies = F.cross_entropy(outputs.logits.transpose(1, 2), truth, reduction="none")
    counted = positive | hard_negatives(entropies.detach(), positive)
    offset_targets = encode(boxes[image, objects], outputs.defaults[default]) / boxes.new_tensor(
        VARIANCES
    )
    offsets = F.smooth_l1_loss(outputs.offsets[positive], offset_targets, reduction="sum")
    return {"labels": entropies[counted].sum() / total, "boxes": offsets / total}
