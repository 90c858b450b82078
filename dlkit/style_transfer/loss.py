"""How far a picture is from the content of one picture and the style of another.

Shapes: B images, C channels, H x W places.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def gram(maps: Tensor) -> Tensor:
    """The Gram matrices (B, C, C) of maps (B, C, H, W): means over the places, not sums.

    G_ij = sum over places of F_i F_j / (H W), so that pictures of different sizes compare (Gatys
    et al. 2016, equation 3, has the sum).
    """
    flat = maps.flatten(2)
    return flat @ flat.mT / flat.shape[-1]


def content_loss(
    maps: Mapping[str, Tensor], targets: Mapping[str, Tensor], layers: Mapping[str, float]
) -> Tensor:
    """The mean square of F_x - F_c in each layer, weighed and added up (Gatys, equation 1)."""
    return torch.stack(
        [weight * F.mse_loss(maps[name], targets[name]) for name, weight in layers.items()]
    ).sum()


def style_loss(
    maps: Mapping[str, Tensor], grams: Mapping[str, Tensor], layers: Mapping[str, float]
) -> Tensor:
    """The mean square of G_x - G_a in each layer, weighed and added up (Gatys, equations 4, 5)."""
    return torch.stack(
        [weight * F.mse_loss(gram(maps[name]), grams[name]) for name, weight in layers.items()]
    ).sum()


def total_variation(images: Tensor) -> Tensor:
    """The mean square of the differences between neighbours, down and across."""
    down, across = images.diff(dim=2), images.diff(dim=3)
    return down.square().mean() + across.square().mean()


def mean_and_std(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, C, 1, 1) of maps (B, C, H, W) over their places."""
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + 1e-5).sqrt()


def statistics_loss(
    maps: Mapping[str, Tensor], targets: Mapping[str, Tensor], layers: Mapping[str, float]
) -> Tensor:
    """How far means and deviations are apart, as in Huang and Belongie 2017, equation 13."""
    total = maps[next(iter(layers))].new_zeros(())
    for name, weight in layers.items():
        (mean, std), (own_mean, own_std) = mean_and_std(targets[name]), mean_and_std(maps[name])
        total = total + weight * (F.mse_loss(own_mean, mean) + F.mse_loss(own_std, std))
    return total
