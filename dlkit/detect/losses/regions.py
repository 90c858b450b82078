"""What R-CNN and Fast R-CNN learn from: some of the proposed regions, and what is in them.

Shapes: B images, N objects (padded, label -1), P proposals (padded, without area), R regions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import area, encode, iou
from dlkit.detect.models.fast_rcnn import OFFSET_SCALE, Answers

POSITIVE = 0.5  # IoU from which a region shows an object
NEARBY = 0.1  # regions that overlap less are background that is rarely taken
SHARE = 0.25  # of the regions show an object, at most
FAST_REGIONS, CROPS = 64, 16  # an image, for fast-rcnn and rcnn


class Regions(NamedTuple):
    """Regions (R, 4) of one image, their labels (R,), 0 for background, and objects (R, 4)."""

    boxes: Tensor
    labels: Tensor
    objects: Tensor


@torch.no_grad()
def sampled(proposals: Tensor, boxes: Tensor, labels: Tensor, count: int) -> Regions:
    """At most `count` regions of an image, a quarter of them on its objects (Girshick 2015, 2.3).

    Those on objects overlap one by half or more, the true boxes among them; the background is
    taken first where it overlaps a tenth or more of one, which is harder to tell.
    """
    boxes, labels = boxes[labels >= 0], labels[labels >= 0]
    candidates = torch.cat([boxes, proposals[area(proposals) > 0]])
    overlaps = iou(candidates[:, None], boxes[None])
    if not len(boxes):
        overlaps = candidates.new_zeros(len(candidates), 1)
        boxes, labels = candidates.new_zeros(1, 4), labels.new_full((1,), -1)
    best, object_ = overlaps.max(dim=1)
    chance = torch.rand(len(candidates), device=candidates.device)
    positive = (best >= POSITIVE).nonzero().flatten()
    positive = positive[chance[positive].argsort()[: round(count * SHARE)]]
    background = (best < POSITIVE).nonzero().flatten()
    order = (chance + (best < NEARBY))[background].argsort()
    chosen = torch.cat([positive, background[order[: count - len(positive)]]])
    told = torch.where(best >= POSITIVE, labels[object_] + 1, 0)
    return Regions(candidates[chosen], told[chosen], boxes[object_[chosen]])


def sample_batch(
    proposals: Tensor, boxes: Tensor, labels: Tensor, count: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """`sampled` of each image: regions of each, and the labels (R,) and objects (R, 4) of all."""
    parts = [sampled(*own, count) for own in zip(proposals, boxes, labels, strict=True)]
    return (
        [part.boxes for part in parts],
        torch.cat([part.labels for part in parts]),
        torch.cat([part.objects for part in parts]),
    )


def fast_rcnn_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor, proposals: Tensor
) -> dict[str, Tensor]:
    """The multi-task loss of Girshick 2015, eq. 1 to 3, over the regions of all images.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N), proposals (B, P, 4).
    """
    regions, told, objects = sample_batch(proposals, boxes, labels, FAST_REGIONS)
    answers: Answers = network(images, regions)
    seen = told > 0
    scale = answers.offsets.new_tensor(OFFSET_SCALE)
    targets = encode(objects[seen], torch.cat(regions)[seen]) / scale
    offsets = answers.offsets[seen, told[seen] - 1]
    return {
        "labels": F.cross_entropy(answers.labels, told, reduction="sum") / max(len(told), 1),
        "boxes": F.smooth_l1_loss(offsets, targets, reduction="sum") / max(len(told), 1),
    }


def rcnn_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor, proposals: Tensor
) -> dict[str, Tensor]:
    """The cross-entropy by which R-CNN's network is fine-tuned (Girshick et al. 2014, 2.3).

    Takes what `fast_rcnn_losses` takes.
    """
    regions, told, _ = sample_batch(proposals, boxes, labels, CROPS)
    logits: Tensor = network(images, regions)
    return {"labels": F.cross_entropy(logits, told, reduction="sum") / max(len(told), 1)}
