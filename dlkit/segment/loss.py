"""What the segmenters are trained to minimize.

Shapes: B images, C classes, H x W pixels, P places, N objects.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes

from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.masks import IGNORED


def segmentation_loss(
    logits: Tensor,
    mask: Tensor,
    config: SegmentTrainConfig,
    class_weights: Tensor | None = None,
    border: Tensor | None = None,
) -> Tensor:
    """The loss by `config.loss` of logits (B, C, H, W) for a mask (B, H, W) of classes.

    IGNORED pixels do not count. `border` (B, H, W), from 0 to 1, is weighed by
    `config.border_weight` and added to the weights of the classes, as in equation 2 of Ronneberger
    et al. 2015.
    """
    mask = mask.long()
    if config.loss_share < 1:
        # As good as training on a sample of patches: Shelhamer et al. 2016, section 3.4.
        dropped = torch.rand(mask.shape, device=mask.device) >= config.loss_share
        mask = mask.masked_fill(dropped, IGNORED)
    loss = logits.new_zeros(())
    if config.loss != "dice":
        gamma = config.focal_gamma if config.loss == "focal" else 0.0
        loss = loss + pixel_loss(
            logits, mask, gamma, pixel_weights(mask, config, class_weights, border)
        )
    if "dice" in config.loss:
        loss = loss + dice_loss(logits, mask)
    return loss


def pixel_weights(
    mask: Tensor, config: SegmentTrainConfig, class_weights: Tensor | None, border: Tensor | None
) -> Tensor | None:
    """w_c + w_0 exp(-(d1 + d2)^2 / (2 sigma^2)) for each pixel (B, H, W); None if all are 1."""
    if class_weights is None and border is None:
        return None
    weights = torch.ones(mask.shape, device=mask.device)
    if class_weights is not None:
        weights = class_weights[mask.where(mask != IGNORED, 0)]
    return weights if border is None else weights + config.border_weight * border


def pixel_loss(logits: Tensor, mask: Tensor, gamma: float, weights: Tensor | None) -> Tensor:
    """Cross-entropy, weighted mean over the pixels (B, H, W); of `gamma` > 0 the focal loss.

    The focal loss is -(1 - p)^gamma log p (Lin et al. 2017, equation 4).
    """
    if weights is None and not gamma:
        total = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="sum")
        return total / (mask != IGNORED).sum().clamp(min=1)
    losses = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="none")
    if gamma:
        losses = (1 - torch.exp(-losses)) ** gamma * losses
    counted = (mask != IGNORED).float()
    weights = counted if weights is None else weights * counted
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - 2 |truth and prediction| / (|truth| + |prediction|), mean over the batch's classes.

    The soft Dice loss of Milletari et al. 2016 (with sums in place of sums of squares), over all
    pixels of the batch, for the classes that are in its truth.
    """
    counted = (mask != IGNORED)[:, None]
    truth = F.one_hot(mask.where(mask != IGNORED, 0), logits.shape[1]).movedim(-1, 1) * counted
    predicted = logits.softmax(dim=1) * counted
    both = (truth * predicted).sum(dim=(0, 2, 3))
    sums = truth.sum(dim=(0, 2, 3)) + predicted.sum(dim=(0, 2, 3))
    there = truth.any(dim=3).any(dim=2).any(dim=0)
    dice = 2 * both / sums.clamp(min=1e-6)
    return ((1 - dice) * there).sum() / there.sum().clamp(min=1)


def random_places(mask: Tensor, count: int) -> Tensor:
    """`count` pixels of each image, among those with a class in its mask (B, H, W).

    Returns image, row and column (P, 3); an image without any gives its first pixel.
    """
    places = []
    for image, own in enumerate(mask):
        there = (own != IGNORED).nonzero()
        if not len(there):
            there = there.new_zeros(1, 2)
        chosen = there[torch.randint(len(there), (count,), device=there.device)]
        places.append(F.pad(chosen, (1, 0), value=image))
    return torch.cat(places)


def as_pixels(logits: Tensor, mask: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (P, C) and masks (B, H, W) at the places, as images (P, C, 1, 1) of one pixel."""
    image, row, column = places.unbind(1)
    return logits[:, :, None, None], mask[image, row, column][:, None, None]


def instance_loss(network: nn.Module, images: Tensor, numbers: Tensor, labels: Tensor) -> Tensor:
    """The sum of the five losses of He et al. 2017: of proposals, and of boxes, labels and masks.

    Images (B, 3, H, W) have values from 0 to 255; `numbers` (B, H, W) count the objects from 1 on,
    whose labels (B, N) are padded with -1. Objects of which nothing is left to see do not count.
    """
    targets = []
    for own, own_labels in zip(numbers, labels, strict=True):
        masks = own == torch.arange(1, len(own_labels) + 1, device=own.device)[:, None, None]
        seen = masks.any(dim=2).any(dim=1)
        boxes = masks_to_boxes(masks[seen])
        boxes[:, 2:] += 1  # torchvision's end at the last pixel, ours behind it
        targets.append(
            {"boxes": boxes, "labels": own_labels[seen] + 1, "masks": masks[seen].to(torch.uint8)}
        )
    losses: dict[str, Tensor] = network(list(images / 255), targets)
    return torch.stack(list(losses.values())).sum()
