"""What SSD is trained to minimize (Liu et al. 2016, section 2.2).

Shapes: B images, N objects (padded, label -1), A default boxes, C labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import encode, iou
from dlkit.detect.models.ssd import VARIANCES, DefaultBoxes

OVERLAP = 0.5  # from which a default box stands for an object
NEGATIVES = 3  # hard ones, for each box that stands for an object


@torch.no_grad()
def match(defaults: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Which object each default box stands for, (B, A): its index among boxes (B, N, 4), or -1.

    Each object first takes the box that it overlaps most, those that overlap most first; each box
    that is left takes the object that it overlaps most, if by more than 0.5.
    """
    overlaps = iou(boxes[:, :, None], defaults) * (labels >= 0)[:, :, None]  # (B, N, A)
    best = overlaps.max(dim=1)
    matched = torch.where(best.values > OVERLAP, best.indices, -1)
    for own, present, taken in zip(overlaps, labels >= 0, matched, strict=True):
        objects = present.nonzero().flatten()
        left = own[objects]
        for _ in range(len(objects)):
            row, default = divmod(int(left.argmax()), left.shape[1])
            if left[row, default] > 0:  # else it overlaps no box
                taken[default] = objects[row]
            left[row], left[:, default] = 0, 0
    return matched


def hardest(losses: Tensor, positive: Tensor) -> Tensor:
    """Of the boxes (B, A) that stand for no object, in each image those with the largest losses.

    They are three times as many as those that do.
    """
    wanted = NEGATIVES * positive.sum(dim=1, keepdim=True)
    ranking = losses.masked_fill(positive, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    return (ranking < wanted) & ~positive


def ssd_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Softmax loss of the labels, and smooth L1 of the offsets, for each matched box (eq. 1 to 3).

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N) with -1 for padding.
    """
    said: DefaultBoxes = network(images)
    matched = match(said.defaults, boxes, labels)
    positive = matched >= 0
    image, default = positive.nonzero(as_tuple=True)
    objects = matched[positive]
    total = max(1, len(objects))

    truth = torch.zeros_like(matched)  # the background
    truth[positive] = labels[image, objects] + 1
    entropies = F.cross_entropy(said.logits.transpose(1, 2), truth, reduction="none")
    counted = positive | hardest(entropies.detach(), positive)
    goals = encode(boxes[image, objects], said.defaults[default]) / boxes.new_tensor(VARIANCES)
    offsets = F.smooth_l1_loss(said.offsets[positive], goals, reduction="sum")
    return {"labels": entropies[counted].sum() / total, "boxes": offsets / total}
