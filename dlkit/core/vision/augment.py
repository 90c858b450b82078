"""Random augmentation of batches of images, on the device.

Shapes: B images, C channels, H x W pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # luma of red, green and blue


def random_affine(images: Tensor, rotate: float, zoom: float, shift: float) -> Tensor:
    """Rotate, zoom and shift images in one interpolation; the border is mirrored.

    Floats (B, C, H, W): each is rotated by up to `rotate` degrees, zoomed in or out by up to the
    factor `zoom`, and shifted by up to a share `shift` of its sides.
    """
    count, device = len(images), images.device

    def uniform(most: float) -> Tensor:
        return (2 * torch.rand(count, device=device) - 1) * most

    angle, factor = uniform(math.radians(rotate)), uniform(math.log(zoom)).exp()
    cos, sin = angle.cos() / factor, angle.sin() / factor
    # The grid's coordinates go from -1 to 1.
    x, y = uniform(2 * shift), uniform(2 * shift)
    matrix = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def jitter_color(images: Tensor, share: float) -> Tensor:
    """Multiply brightness, contrast and saturation each by 1 - share to 1 + share.

    Images (B, C, H, W) of floats from 0 to 255; each draws its own changes.
    """
    brightness, contrast, saturation = (
        1 + (2 * torch.rand(3, len(images), 1, 1, 1, device=images.device) - 1) * share
    )
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    if images.shape[1] == 3:
        weights = torch.tensor(GRAY_WEIGHTS, device=images.device).view(1, 3, 1, 1)
        gray = (images * weights).sum(dim=1, keepdim=True)
        images = gray + (images - gray) * saturation
    return images.clamp(0, 255)
