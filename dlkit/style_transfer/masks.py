"""Masks of the regions of a photograph where styles apply: white is painted, black is kept.

Shapes: K styles, H x W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.vision import images
from dlkit.style_transfer.color import luminance

MAX_ASPECT_RATIO = 1.02  # of mask and photograph, which rounding may cause


def read_masks(paths: Sequence[str], width: int, height: int) -> Tensor:
    """Read masks (K, H, W) from 0 to 1 at the photograph's size.

    Overlapping masks are normalized to a sum of 1. Raises DlkitError for a mask that is unreadable,
    has another aspect ratio than the photograph, or is black everywhere.
    """
    masks = []
    for path in paths:
        try:
            picture = images.read(path)
        except DlkitError as error:
            raise DlkitError(error.reason_for(path), path) from error
        difference = picture.width * height / (picture.height * width)
        if max(difference, 1 / difference) > MAX_ASPECT_RATIO:
            raise DlkitError(
                f"a mask of {picture.width} x {picture.height} pixels for a photograph of"
                f" {width} x {height}; give it the same aspect ratio",
                path,
            )
        mask = luminance(picture.pixels.float() / 255)
        if not mask.any():
            raise DlkitError(
                "the mask is black everywhere; paint white where the style applies", path
            )
        masks.append(resize_masks(mask, height, width)[0])
    together = torch.stack(masks)
    return together / together.sum(dim=0).clamp(min=1)


def resize_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Resize masks (K, h, w)."""
    if masks.shape[1:] == (height, width):
        return masks
    return F.interpolate(
        masks[None], size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )[0].clamp(0, 1)


def apply_masks(masks: Tensor, painting: Tensor, photo: Tensor) -> Tensor:
    """Blend painting and photograph (3, H, W) by the sum of the masks."""
    return torch.lerp(photo, painting, masks.sum(dim=0).clamp(max=1))
