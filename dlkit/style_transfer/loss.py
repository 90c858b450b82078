"""Content, style and total variation losses.

Shapes: B images, C channels, H x W positions.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.style_transfer.models.statistics import mean_and_std

CHUNK = 4096  # positions that are summed in the precision of the maps


class Gram(torch.autograd.Function):
    """F F^T of flat maps (B, H W, C), in fp32; the backward pass is one product instead of two."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:
        ctx.save_for_backward(flat)
        count, places, channels = flat.shape
        parts = places // CHUNK
        if flat.dtype == torch.float32 or parts < 2:
            return (flat.mT @ flat).float()
        # A bf16 sum has 8 bits; partial sums that are added in fp32 gain about 4 more.
        whole = flat[:, : parts * CHUNK].reshape(count * parts, CHUNK, channels)
        sums = (whole.mT @ whole).view(count, parts, channels, channels).float().sum(dim=1)
        rest = flat[:, parts * CHUNK :]
        return sums + (rest.mT @ rest).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        (gradient,) = gradients
        y: Tensor = flat @ (gradient + gradient.mT).to(flat.dtype)
        return y


def gram(maps: Tensor, mask: Tensor | None = None) -> Tensor:
    """The Gram matrices (B, C, C) of maps (B, C, H, W), as means over positions.

    G_ij = sum over positions of F_i F_j / (H W), which is comparable between sizes (Gatys et al.
    2016, equation 3, has the sum). A mask (1, 1, H, W) of weights makes it a weighted mean.
    """
    if mask is not None:
        maps = maps * (mask / mask.mean().clamp(min=1e-6)).sqrt().to(maps.dtype)
    places = maps.shape[2] * maps.shape[3]
    result: Tensor = Gram.apply(maps.permute(0, 2, 3, 1).flatten(1, 2))
    return result / places


def content_loss(
    maps: Mapping[str, Tensor], targets: Mapping[str, Tensor], layers: Mapping[str, float]
) -> Tensor:
    """The weighted sum over layers of the mean square of F_x - F_c (Gatys, equation 1)."""
    total = torch.zeros((), device=next(iter(maps.values())).device)
    for name, weight in layers.items():
        total = total + weight * F.mse_loss(maps[name].float(), targets[name].float())
    return total


def style_loss(
    maps: Mapping[str, Tensor],
    grams: Mapping[str, Tensor],
    layers: Mapping[str, float],
    masks: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The weighted sum over layers of the mean square of G_x - G_a (Gatys, equations 4 and 5).

    `masks` (1, 1, H, W), one for each layer, select where the style applies.
    """
    total = torch.zeros((), device=next(iter(maps.values())).device)
    for name, weight in layers.items():
        own = gram(maps[name], None if masks is None else masks[name])
        total = total + weight * F.mse_loss(own, grams[name].expand_as(own))
    return total


def total_variation(images: Tensor) -> Tensor:
    """The mean squared difference between vertical and horizontal neighbors."""
    down, across = images.diff(dim=2), images.diff(dim=3)
    return down.square().mean() + across.square().mean()


def statistics_loss(
    maps: Mapping[str, Tensor], targets: Mapping[str, Tensor], layers: Mapping[str, float]
) -> Tensor:
    """The squared differences of means and deviations (Huang and Belongie 2017, equation 13)."""
    total = torch.zeros((), device=next(iter(maps.values())).device)
    for name, weight in layers.items():
        mean, std = mean_and_std(targets[name].float())
        own_mean, own_std = mean_and_std(maps[name].float())
        total = total + weight * (F.mse_loss(own_mean, mean) + F.mse_loss(own_std, std))
    return total
