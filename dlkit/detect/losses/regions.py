"""The losses of `rcnn` and `fast-rcnn` on sampled region proposals.

Shapes: B images, N objects (padded, label -1), P proposals (padded, without area), R regions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import area, encode, iou
from dlkit.detect.models.fast_rcnn import OFFSET_SCALE, RegionOutput

POSITIVE = 0.5  # IoU from which a region shows an object
NEARBY = 0.1  # IoU below which background regions are sampled last
POSITIVE_SHARE = 0.25  # of the sampled regions, at most
FAST_REGIONS, CROPS = 64, 16  # an image, for fast-rcnn and rcnn


class Regions(NamedTuple):
    """Regions (R, 4) of one image, their labels (R,), 0 for background, and objects (R, 4)."""

    boxes: Tensor
    labels: Tensor
    objects: Tensor


@torch.no_grad()
def sample_regions(proposals: Tensor, boxes: Tensor, labels: Tensor, count: int) -> Regions:
    """Sample at most `count` regions of an image, a quarter of them positive (Girshick 2015, 2.3).

    Positive regions, which include the true boxes, have an IoU of at least 0.5 with an object.
    Background regions with an IoU of at least 0.1 are preferred: they are harder to classify.
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
    positive = positive[chance[positive].argsort()[: round(count * POSITIVE_SHARE)]]
    background = (best < POSITIVE).nonzero().flatten()
    order = (chance + (best < NEARBY))[background].argsort()
    chosen = torch.cat([positive, background[order[: count - len(positive)]]])
    targets = torch.where(best >= POSITIVE, labels[object_] + 1, 0)
    return Regions(candidates[chosen], targets[chosen], boxes[object_[chosen]])


def sample_batch(
    proposals: Tensor, boxes: Tensor, labels: Tensor, count: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Sample regions of each image; labels (R,) and objects (R, 4) are of all images."""
    parts = [sample_regions(*own, count) for own in zip(proposals, boxes, labels, strict=True)]
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
    regions, targets, objects = sample_batch(proposals, boxes, labels, FAST_REGIONS)
    outputs: RegionOutput = network(images, regions)
    positive = targets > 0
    scale = outputs.offsets.new_tensor(OFFSET_SCALE)
    offset_targets = encode(objects[positive], torch.cat(regions)[positive]) / scale
    offsets = outputs.offsets[positive, targets[positive] - 1]
    return {
        "labels": F.cross_entropy(outputs.labels, targets, reduction="sum") / max(len(targets), 1),
        "boxes": F.smooth_l1_loss(offsets, offset_targets, reduction="sum") / max(len(targets), 1),
    }


def rcnn_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor, proposals: Tensor
) -> dict[str, Tensor]:
    """The cross-entropy that fine-tunes R-CNN's network (Girshick et al. 2014, 2.3).

    Takes the same arguments as `fast_rcnn_losses`.
    """
    regions, targets, _ = sample_batch(proposals, boxes, labels, CROPS)
    logits: Tensor = network(images, regions)
    return {"labels": F.cross_entropy(logits, targets, reduction="sum") / max(len(targets), 1)}
