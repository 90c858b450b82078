"""Random changes of batches of images that tasks share, on the device.

Shapes: B images, C channels, H x W pixels.
"""

import torch
from torch import Tensor

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # luma of red, green and blue


def recoloured(images: Tensor, share: float) -> Tensor:
    """Brightness, contrast and saturation each times 1 - share to 1 + share.

    Images (B, C, H, W) of floats from 0 to 255; each draws its own changes.
    """
    brightness, contrast, saturation = (
        1 + (2 * torch.rand(3, len(images), 1, 1, 1, device=images.device) - 1) * share
    )
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    if images.shape[1] == 3:
        weights = torch.tensor(GREY_WEIGHTS, device=images.device).view(1, 3, 1, 1)
        grey = (images * weights).sum(dim=1, keepdim=True)
        images = grey + (images - grey) * saturation
    return images.clamp(0, 255)
