"""What the sliding window's classifier learns from.

Shapes: B images, N objects (padded, label -1), W windows.
"""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import iou
from dlkit.detect.models.sliding_window import sizes, windows

OBJECT, BACKGROUND = 0.5, 0.4  # IoU from which, and below which, a window shows an object
PER_OBJECT, AT_LEAST = 3, 16  # windows of background that are taken


def sliding_window_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The cross-entropy of windows that show an object and of some that show background.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N). The windows, for each batch
    of the size that fits one of its objects, go through the network as in inference, all at once:
    as good as crops, and many times cheaper.
    """
    width, height = size_for_one(images, boxes[labels >= 0])
    logits = network(images, width, height).flatten(0, 2)
    target = labels_of(windows(images, width, height).flatten(0, 1), boxes, labels).flatten()
    background = (target == 0).nonzero().flatten()
    wanted = max(PER_OBJECT * int((target > 0).sum()), AT_LEAST)
    left_out = background[torch.randperm(len(background), device=background.device)[wanted:]]
    target[left_out] = -1
    total = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum")
    return {"labels": total / (target >= 0).sum().clamp(min=1)}


def size_for_one(images: Tensor, boxes: Tensor) -> tuple[float, float]:
    """The size of window that overlaps one of these boxes (N, 4) most; any if there are none."""
    every = sizes(images)
    if len(boxes) == 0:
        return random.choice(every)
    x1, y1, x2, y2 = random.choice(boxes.tolist())
    own = torch.tensor([[0.0, 0.0, x2 - x1, y2 - y1]])
    overlaps = iou(own, torch.tensor([[0.0, 0.0, *size] for size in every]))
    return every[int(overlaps.argmax())]


@torch.no_grad()
def labels_of(seen: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """What windows (W, 4) show of each image: (B, W) labels from 1; 0 background, -1 neither."""
    overlaps = iou(seen[None, :, None], boxes[:, None]) * (labels >= 0)[:, None]
    best, object_ = overlaps.max(dim=2)
    told = torch.where(best >= OBJECT, labels.gather(1, object_) + 1, -1)
    return torch.where(best < BACKGROUND, 0, told)
