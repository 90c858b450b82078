"""Losses of semantic segmentation.

Shapes: B images, C classes, H x W pixels, P sampled pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.segment.architecture import TrainingBatch
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.masks import IGNORED


def semantic_loss(
    network: nn.Module,
    batch: TrainingBatch,
    config: SegmentTrainConfig,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The segmentation loss of a network with logits for every pixel."""
    logits = network(batch.images)
    return segmentation_loss(logits, batch.mask, config, class_weights, batch.border)


def sampled_pixel_loss(
    network: nn.Module,
    batch: TrainingBatch,
    config: SegmentTrainConfig,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The segmentation loss of `config.places` pixels of each image, for a network of windows."""
    places = random_pixels(batch.mask, config.places)
    logits = network(batch.images, places)
    return segmentation_loss(*as_single_pixels(logits, batch.mask, places), config, class_weights)


def segmentation_loss(
    logits: Tensor,
    mask: Tensor,
    config: SegmentTrainConfig,
    class_weights: Tensor | None = None,
    border: Tensor | None = None,
) -> Tensor:
    """The loss `config.loss` of logits (B, C, H, W) for a mask (B, H, W) of class indices.

    IGNORED pixels do not count. `border` (B, H, W), from 0 to 1, is multiplied by
    `config.border_weight` and added to the class weights, as in equation 2 of Ronneberger et al.
    2015.
    """
    mask = mask.long()
    if config.loss_share < 1:
        # Equivalent to training on sampled patches (Shelhamer et al. 2016, section 3.4).
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
    """Pixel weights (B, H, W): w_c + w_0 exp(-(d1 + d2)^2 / (2 sigma^2)); None if all are 1."""
    if class_weights is None and border is None:
        return None
    weights = torch.ones(mask.shape, device=mask.device)
    if class_weights is not None:
        weights = class_weights[mask.where(mask != IGNORED, 0)]
    return weights if border is None else weights + config.border_weight * border


def pixel_loss(logits: Tensor, mask: Tensor, gamma: float, weights: Tensor | None) -> Tensor:
    """Weighted mean cross-entropy over the pixels (B, H, W); with `gamma` > 0, the focal loss.

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
    """Soft Dice loss: 1 - 2 |truth and prediction| / (|truth| + |prediction|), mean over classes.

    The loss of Milletari et al. 2016, with sums instead of sums of squares, over all pixels of the
    batch and the classes in its ground truth.
    """
    counted = (mask != IGNORED)[:, None]
    truth = F.one_hot(mask.where(mask != IGNORED, 0), logits.shape[1]).movedim(-1, 1) * counted
    predicted = logits.softmax(dim=1) * counted
    intersection = (truth * predicted).sum(dim=(0, 2, 3))
    sums = truth.sum(dim=(0, 2, 3)) + predicted.sum(dim=(0, 2, 3))
    present = truth.any(dim=3).any(dim=2).any(dim=0)
    dice = 2 * intersection / sums.clamp(min=1e-6)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def random_pixels(mask: Tensor, count: int) -> Tensor:
    """Sample `count` labeled pixels of each image from its mask (B, H, W).

    Returns image, row and column (P, 3); an image without labeled pixels gives its first pixel.
    """
    places = []
    for image, own in enumerate(mask):
        labeled = (own != IGNORED).nonzero()
        if not len(labeled):
            labeled = labeled.new_zeros(1, 2)
        sampled = labeled[torch.randint(len(labeled), (count,), device=labeled.device)]
        places.append(F.pad(sampled, (1, 0), value=image))
    return torch.cat(places)


def as_single_pixels(logits: Tensor, mask: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (P, C) and the masks (B, H, W) at `places` (P, 3), as images of one pixel."""
    image, row, column = places.unbind(1)
    return logits[:, :, None, None], mask[image, row, column][:, None, None]
