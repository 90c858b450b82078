"""The loss of `sliding-window`: classification of windows.

Shapes: B images, N objects (padded, label -1), W windows.
"""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.detect.boxes import iou
from dlkit.detect.models.sliding_window import sizes, windows

OBJECT, BACKGROUND = 0.5, 0.4  # least IoU of a positive window, and limit of the background
PER_OBJECT, AT_LEAST = 3, 16  # sampled background windows


def sliding_window_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The cross-entropy of windows that show an object and of some that show background.

    uint8 images (B, 3, H, W), boxes (B, N, 4) in pixels, labels (B, N). All windows of one size,
    which fits a random object of the batch, are computed in one pass as in inference: equal to
    crops, and many times cheaper.
    """
    width, height = choose_window_size(images, boxes[labels >= 0])
    logits = network(images, width, height).flatten(0, 2)
    target = label_windows(windows(images, width, height).flatten(0, 1), boxes, labels).flatten()
    background = (target == 0).nonzero().flatten()
    wanted = max(PER_OBJECT * int((target > 0).sum()), AT_LEAST)
    unused = background[torch.randperm(len(background), device=background.device)[wanted:]]
    target[unused] = -1
    total = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum")
    return {"labels": total / (target >= 0).sum().clamp(min=1)}


def choose_window_size(images: Tensor, boxes: Tensor) -> tuple[float, float]:
    """The window size of highest IoU with a random one of boxes (N, 4); any if there are none."""
    every = sizes(images)
    if len(boxes) == 0:
        return random.choice(every)
    x1, y1, x2, y2 = random.choice(boxes.tolist())
    own = torch.tensor([[0.0, 0.0, x2 - x1, y2 - y1]])
    overlaps = iou(own, torch.tensor([[0.0, 0.0, *size] for size in every]))
    return every[int(overlaps.argmax())]


@torch.no_grad()
def label_windows(window_boxes: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Labels (B, W) from 1 of windows (W, 4) in each image; 0 is background, -1 is ignored."""
    overlaps = iou(window_boxes[None, :, None], boxes[:, None]) * (labels >= 0)[:, None]
    best, object_ = overlaps.max(dim=2)
    labeled = torch.where(best >= OBJECT, labels.gather(1, object_) + 1, -1)
    return torch.where(best < BACKGROUND, 0, labeled)
