"""Color preservation in style transfer (Gatys et al. 2016, arXiv:1606.05897).

Pictures are (3, H, W) of red, green and blue from 0 to 1; h x w may be another size.
"""

import torch
from torch import Tensor

from dlkit.core.vision.augment import GRAY_WEIGHTS

SMALLEST_VARIANCE = 1e-4  # of colors; less, as in a gray picture, is noise


def luminance(picture: Tensor) -> Tensor:
    """The luma (1, H, W) of a picture, the Y of YIQ."""
    weights = torch.tensor(GRAY_WEIGHTS, device=picture.device).view(3, 1, 1)
    return (picture * weights).sum(dim=0, keepdim=True)


def to_gray(picture: Tensor) -> Tensor:
    """The luma of a picture in all three channels."""
    return luminance(picture).expand(3, -1, -1)


def match_luminance(style: Tensor, photo: Tensor) -> Tensor:
    """The style in gray, with mean and deviation of the photograph's luma ("luminance-only").

    The result is not clipped to 0..1, which would change both.
    """
    own, reference = luminance(style), luminance(photo)
    share = reference.std() / own.std().clamp(min=SMALLEST_VARIANCE**0.5)
    return ((own - own.mean()) * share + reference.mean()).expand(3, -1, -1)


def keep_chroma(photo: Tensor, painting: Tensor) -> Tensor:
    """The painting's luma with the photograph's chroma, both of one size; 0 to 1.

    The chroma is reduced where the color would be out of gamut.
    """
    bright = luminance(painting).clamp(0, 1)
    chroma = photo - luminance(photo)
    # Headroom of each channel before it clips; the minimum over channels keeps the hue.
    room = torch.where(chroma > 0, 1 - bright, bright) / chroma.abs().clamp(min=1e-6)
    return (bright + chroma * room.amin(dim=0, keepdim=True).clamp(max=1)).clamp(0, 1)


def match_colors(style: Tensor, photo: Tensor) -> Tensor:
    """The style with mean and covariance of the photograph's colors ("histogram matching").

    The linear transformation is the symmetric root of one covariance times the inverse root of the
    other, as the paper recommends. The result is not clipped to 0..1.
    """
    own_mean, own_root = color_statistics(style, -0.5)
    mean, root = color_statistics(photo, 0.5)
    centered = style.double().flatten(1) - own_mean
    return (root @ own_root @ centered + mean).view_as(style).to(style.dtype)


def match_painting_colors(photo: Tensor, painting: Tensor) -> Tensor:
    """The painting with mean and covariance of the photograph's colors; 0 to 1."""
    return match_colors(painting, photo).clamp(0, 1)


def color_statistics(picture: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """The mean color (3, 1), and the covariance of colors (3, 3) raised to `power`."""
    colors = picture.double().flatten(1)
    mean = colors.mean(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.cov(colors, correction=0))
    powers = values.clamp(min=SMALLEST_VARIANCE) ** power
    return mean, vectors @ powers.diag() @ vectors.T
