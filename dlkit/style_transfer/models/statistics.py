"""Statistics of feature maps."""

import torch
from torch import Tensor


def mean_and_std(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, C, 1, 1) of maps (B, C, H, W) over positions."""
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + 1e-5).sqrt()
