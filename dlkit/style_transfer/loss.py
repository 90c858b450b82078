"""How far a picture is from the content of one picture and the style of another.

Shapes: B images, C channels, H x W places.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PART = 4096  # places whose products are added up in the maps' own precision


class Gram(torch.autograd.Function):
    """F F^T of flat maps (B, H W, C), in fp32; backwards it is one product, not autograd's two."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:
        ctx.save_for_backward(flat)
        count, places, channels = flat.shape
        parts = places // PART
        if flat.dtype == torch.float32 or parts < 2:
            return (flat.mT @ flat).float()
        # bf16 keeps 8 bits of a sum: many sums, added up in fp32, keep some 4 more.
        whole = flat[:, : parts * PART].reshape(count * parts, PART, channels)
        sums = (whole.mT @ whole).view(count, parts, channels, channels).float().sum(dim=1)
        rest = flat[:, parts * PART :]
        return sums + (rest.mT @ rest).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        (gradient,) = gradients
        return flat @ (gradient + gradient.mT).to(flat.dtype)


def gram(maps: Tensor, mask: Tensor | None = None) -> Tensor:
    """The Gram matrices (B, C, C) of maps (B, C, H, W): means over the places, not sums.

    G_ij = sum over places of F_i F_j / (H W), so that pictures of different sizes compare (Gatys
    et al. 2016, equation 3, has the sum). A mask (1, 1, H, W) of weights makes it a weighted mean.
    """
    if mask is not None:
        maps = maps * (mask / mask.mean().clamp(min=1e-6)).sqrt().to(maps.dtype)
    places = maps.shape[2] * maps.shape[3]
    result: Tensor = Gram.apply(maps.permute(0, 2, 3, 1).flatten(1, 2))
    return result / places


def content_loss(
    maps: Mapping[str, Tensor], targets: Mapping[str, Tensor], layers: Mapping[str, float]
) -> Tensor:
    """The mean square of F_x - F_c in each layer, weighed and added up (Gatys, equation 1)."""
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
    """The mean square of G_x - G_a in each layer, weighed and added up (Gatys, equations 4, 5).

    `masks` (1, 1, H, W), one for each layer, say where the style is asked for.
    """
    total = torch.zeros((), device=next(iter(maps.values())).device)
    for name, weight in layers.items():
        own = gram(maps[name], None if masks is None else masks[name])
        total = total + weight * F.mse_loss(own, grams[name].expand_as(own))
    return total


def total_variation(images: Tensor) -> Tensor:
    """The mean square of the differences between neighbors, down and across."""
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
    total = torch.zeros((), device=next(iter(maps.values())).device)
    for name, weight in layers.items():
        mean, std = mean_and_std(targets[name].float())
        own_mean, own_std = mean_and_std(maps[name].float())
        total = total + weight * (F.mse_loss(own_mean, mean) + F.mse_loss(own_std, std))
    return total
