"""Masks: where in the photograph which style is painted. White is painted, black is not.

Shapes: K styles, H x W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.vision import images
from dlkit.style_transfer.color import luminance

MOST_ASPECT = 1.02  # the aspects of mask and photograph may differ by rounding


def read_masks(paths: Sequence[str], width: int, height: int) -> Tensor:
    """Masks (K, H, W) from 0 to 1 at the photograph's size.

    Where several styles are white, they share the place. Raises DlkitError for a mask that cannot
    be read, is of another shape than the photograph, or is black everywhere.
    """
    masks = []
    for path in paths:
        try:
            picture = images.read(path)
        except DlkitError as error:
            raise DlkitError(f"{path}: {error}") from error
        difference = picture.width * height / (picture.height * width)
        if max(difference, 1 / difference) > MOST_ASPECT:
            raise DlkitError(
                f"{path}: a mask of {picture.width} x {picture.height} pixels does not fit a"
                f" photograph of {width} x {height}: give it the same aspect"
            )
        mask = luminance(picture.pixels.float() / 255)
        if not mask.any():
            raise DlkitError(f"{path}: the mask is black everywhere: white is what is painted")
        masks.append(resized(mask, height, width)[0])
    together = torch.stack(masks)
    return together / together.sum(dim=0).clamp(min=1)


def resized(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks (K, h, w) at another size."""
    if masks.shape[1:] == (height, width):
        return masks
    return F.interpolate(
        masks[None], size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )[0].clamp(0, 1)


def painted_within(masks: Tensor, painting: Tensor, photo: Tensor) -> Tensor:
    """The painting (3, H, W) where the masks are white, the photograph where they are black."""
    return torch.lerp(photo, painting, masks.sum(dim=0).clamp(max=1))
