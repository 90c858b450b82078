"""Differentiable augmentation of real and generated images (Zhao et al. 2020, "DiffAugment").

The strengths are those of the official code.

Shapes: B images, C channels, S x S pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError

SHIFT = 0.125  # of the side, at most
HOLE = 0.5  # of the side


def parse_policy(text: str) -> list[str]:
    """Parse `--augment`; raises DlkitError for unknown names."""
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in POLICIES]:
        raise DlkitError(
            f"--augment {unknown[0]}: unknown; choose from none, {', '.join(POLICIES)}"
        )
    return names


def augment(images: Tensor, names: list[str]) -> Tensor:
    """Augment images (B, C, S, S) from -1 to 1, each with its own random values."""
    for name in names:
        images = POLICIES[name](images)
    return images


def jitter_color(images: Tensor) -> Tensor:
    """Jitter brightness by +-0.5, saturation by a factor of 0 to 2, contrast of 0.5 to 1.5."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device)
    images = images + (brightness - 0.5).to(images.dtype)
    if images.shape[1] > 1:
        gray = images.mean(dim=1, keepdim=True)
        images = gray + (images - gray) * (2 * saturation).to(images.dtype)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    y: Tensor = mean + (images - mean) * (contrast + 0.5).to(images.dtype)
    return y


def translate(images: Tensor) -> Tensor:
    """Shift by up to an eighth of the side each way, padding with 0 (gray)."""
    side = images.shape[-1]
    most = int(side * SHIFT + 0.5)
    down, right = torch.randint(-most, most + 1, (2, len(images), 1), device=images.device)
    places = torch.arange(side, device=images.device)
    # Rows and columns 0 and S + 1 are padding.
    rows = (places + down + 1).clamp(0, side + 1)[:, :, None]
    columns = (places + right + 1).clamp(0, side + 1)[:, None, :]
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[index, rows, columns].permute(0, 3, 1, 2)


def cutout(images: Tensor) -> Tensor:
    """Set a square of half the side to 0; it may extend beyond the image."""
    side = images.shape[-1]
    hole = int(side * HOLE + 0.5)
    top, left = torch.randint(0, side + 1 - hole % 2, (2, len(images), 1), device=images.device)
    places = torch.arange(side, device=images.device)
    start = places + hole // 2
    in_rows = ((start >= top) & (start < top + hole))[:, :, None]
    in_columns = ((start >= left) & (start < left + hole))[:, None, :]
    y: Tensor = images * (~(in_rows & in_columns))[:, None].to(images.dtype)
    return y


POLICIES = {"color": jitter_color, "translation": translate, "cutout": cutout}
