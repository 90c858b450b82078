"""The photograph's own colors in a painting (Gatys et al. 2016, arXiv:1606.05897).

Pictures are (3, H, W) of red, green and blue from 0 to 1; h x w may be another size.
"""

import torch
from torch import Tensor

from dlkit.core.vision.augment import GRAY_WEIGHTS

SMALLEST_VARIANCE = 1e-4  # of colors, under which they are noise: that of a gray picture, say


def luminance(picture: Tensor) -> Tensor:
    """The brightness (1, H, W) of a picture: luma, the Y of YIQ."""
    weights = torch.tensor(GRAY_WEIGHTS, device=picture.device).view(3, 1, 1)
    return (picture * weights).sum(dim=0, keepdim=True)


def gray(picture: Tensor) -> Tensor:
    return luminance(picture).expand(3, -1, -1)


def gray_like(style: Tensor, photo: Tensor) -> Tensor:
    """The style in gray, with the photograph's mean and spread of brightness ("luminance-only").

    Not cut at 0 and 1, which would change both.
    """
    own, wanted = luminance(style), luminance(photo)
    share = wanted.std() / own.std().clamp(min=SMALLEST_VARIANCE**0.5)
    return ((own - own.mean()) * share + wanted.mean()).expand(3, -1, -1)


def with_chroma_of(photo: Tensor, painting: Tensor) -> Tensor:
    """The painting's brightness in the photograph's colors, both of one size; 0 to 1.

    Where that is no color, because it would be too bright or too dark, the chroma is less.
    """
    bright = luminance(painting).clamp(0, 1)
    chroma = photo - luminance(photo)
    # How far each channel can go before it is 0 or 1; the least of the three keeps the hue.
    room = torch.where(chroma > 0, 1 - bright, bright) / chroma.abs().clamp(min=1e-6)
    return (bright + chroma * room.amin(dim=0, keepdim=True).clamp(max=1)).clamp(0, 1)


def matched(style: Tensor, photo: Tensor) -> Tensor:
    """The style with the photograph's mean and covariance of colors ("histogram matching").

    The transformation is the symmetric root of one covariance times the inverse root of the other,
    as the paper prefers it. Not cut at 0 and 1.
    """
    own_mean, own_root = statistics(style, -0.5)
    mean, root = statistics(photo, 0.5)
    centered = style.double().flatten(1) - own_mean
    return (root @ own_root @ centered + mean).view_as(style).to(style.dtype)


def matched_after(photo: Tensor, painting: Tensor) -> Tensor:
    """A finished painting with the photograph's mean and covariance of colors; 0 to 1."""
    return matched(painting, photo).clamp(0, 1)


def statistics(picture: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """The mean color (3, 1), and the covariance of colors (3, 3) to this power."""
    colors = picture.double().flatten(1)
    mean = colors.mean(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.cov(colors, correction=0))
    powers = values.clamp(min=SMALLEST_VARIANCE) ** power
    return mean, vectors @ powers.diag() @ vectors.T
