"""Augmentation of training images, by the batch, on the device.

Shapes: B images, C channels, S x S pixels, L labels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.core.train.sampler import seed_of
from dlkit.core.vision.augment import jitter_color, random_affine


def augment(images: Tensor, config: ClassifyTrainConfig) -> Tensor:
    """Augment images (B, C, S, S) of values from 0 to 255; the result is float if interpolated.

    Each image draws its own shift, rotation, zoom, flip, color jitter and cutout.
    """
    if config.randaugment:
        change = v2.RandAugment(num_ops=2, magnitude=config.randaugment)
        images = torch.stack([change(image) for image in images])
    shift = config.shift or 0.0
    if config.rotate or config.zoom > 1:
        images = random_affine(images.float(), config.rotate, config.zoom, shift)
    elif shift:
        images = random_shift(images, round(shift * images.shape[-1]))
    if config.flip and not config.alternate_flip:
        mirrored = random_mask(images, config.flip)
        images = torch.where(mirrored, images.flip(-1), images)
    if config.color_jitter:
        images = jitter_color(images.float(), config.color_jitter)
    if config.cutout:
        images = images.masked_fill(cutout_mask(images, config.cutout), 128)
    return images


def random_mask(images: Tensor, share: float) -> Tensor:
    """Draw a mask (B, 1, 1, 1), true for each image with probability `share`."""
    return torch.rand(len(images), 1, 1, 1, device=images.device) < share


def alternate_flips(count: int, seed: int, epoch: int) -> Tensor:
    """Booleans (count,): the images that are mirrored in this epoch (Jordan 2024, section 3.6).

    Each image is mirrored in every other epoch, so that two epochs in a row show both views of it;
    the seed draws those that are mirrored in even epochs.
    """
    generator = torch.Generator().manual_seed(seed_of(seed))
    return (torch.rand(count, generator=generator) < 0.5) ^ bool(epoch % 2)


def random_shift(images: Tensor, most: int) -> Tensor:
    """Shift each image by up to `most` whole pixels in each direction, with mirrored borders."""
    count, _, height, width = images.shape
    padded = F.pad(images.float(), (most, most, most, most), mode="reflect").to(images.dtype)
    y, x = torch.randint(2 * most + 1, (2, count, 1), device=images.device)
    rows = (y + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (x + torch.arange(width, device=images.device))[:, None, None, :]
    batch = torch.arange(count, device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[batch, channels, rows, columns]


def cutout_mask(images: Tensor, share: float) -> Tensor:
    """Draw a mask (B, 1, S, S) of one square per image, `share` of its side (DeVries 2017)."""
    count, _, height, width = images.shape
    side = round(share * height)
    y, x = torch.rand(2, count, 1, 1, device=images.device)
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    # The center may be anywhere, so a square may extend beyond the image.
    inside: Tensor = ((rows - y * height).abs() < side / 2) & (
        (columns - x * width).abs() < side / 2
    )
    return inside[:, None]


def mix(images: Tensor, targets: Tensor, config: ClassifyTrainConfig) -> tuple[Tensor, Tensor]:
    """Mix each image with another of the batch, and targets (B, L) in the same proportions.

    Mixup (Zhang et al. 2018) blends them, CutMix (Yun et al. 2019) pastes a rectangle; if both
    are enabled, each batch uses one of them at random.
    """
    chosen = [name for name in ("mixup", "cutmix") if getattr(config, name)]
    name = chosen[int(torch.randint(len(chosen), ()))]
    alpha = getattr(config, name)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(images), device=images.device)
    if name == "mixup":
        images = images.float().lerp(images[other].float(), share)
    else:
        height, width = images.shape[-2:]
        cut = math.sqrt(share)
        y, x = torch.rand(2).tolist()
        top, bottom = (round(min(max(y + s * cut / 2, 0), 1) * height) for s in (-1, 1))
        left, right = (round(min(max(x + s * cut / 2, 0), 1) * width) for s in (-1, 1))
        images = images.clone()
        images[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
        share = (bottom - top) * (right - left) / (height * width)
    return images, targets.lerp(targets[other], share)
