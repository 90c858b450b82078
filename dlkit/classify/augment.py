"""Random changes of training images, a whole batch at a time, on the device.

Shapes: B images, C channels, S x S pixels, L labels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.core.vision.augment import jitter_color, random_affine


def augmented(images: Tensor, config: ClassifyTrainConfig) -> Tensor:
    """Changed copies (B, C, S, S) of images, all with values 0 to 255; float if they were blended.

    Each image draws its own shift, turn, zoom, mirroring, colors and hole.
    """
    if config.randaugment:
        change = v2.RandAugment(num_ops=2, magnitude=config.randaugment)
        images = torch.stack([change(image) for image in images])
    if config.rotate or config.zoom > 1:
        images = random_affine(images.float(), config.rotate, config.zoom, config.shift)
    elif config.shift:
        images = shifted(images, round(config.shift * images.shape[-1]))
    if config.flip:
        mirrored = chance(images, config.flip)
        images = torch.where(mirrored, images.flip(-1), images)
    if config.color_jitter:
        images = jitter_color(images.float(), config.color_jitter)
    if config.cutout:
        images = images.masked_fill(holes(images, config.cutout), 128)
    return images


def chance(images: Tensor, share: float) -> Tensor:
    """True for a share of the images (B, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, device=images.device) < share


def shifted(images: Tensor, most: int) -> Tensor:
    """Moved by up to `most` whole pixels each way; the border is mirrored."""
    count, _, height, width = images.shape
    padded = F.pad(images.float(), (most, most, most, most), mode="reflect").to(images.dtype)
    y, x = torch.randint(2 * most + 1, (2, count, 1), device=images.device)
    rows = (y + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (x + torch.arange(width, device=images.device))[:, None, None, :]
    batch = torch.arange(count, device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[batch, channels, rows, columns]


def holes(images: Tensor, share: float) -> Tensor:
    """True (B, 1, S, S) in one square of each image, `share` of its side (DeVries 2017)."""
    count, _, height, width = images.shape
    side = round(share * height)
    y, x = torch.rand(2, count, 1, 1, device=images.device)
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    # The middle may be anywhere, so that a hole may reach out of the image.
    inside = ((rows - y * height).abs() < side / 2) & ((columns - x * width).abs() < side / 2)
    return inside[:, None]


def mixed(images: Tensor, targets: Tensor, config: ClassifyTrainConfig) -> tuple[Tensor, Tensor]:
    """Each image mixed with another of the batch; targets (B, L) mixed in the same shares.

    mixup (Zhang et al. 2018) blends them, cutmix (Yun et al. 2019) pastes a rectangle; where both
    are on, a coin decides.
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
