"""Random changes of real and generated images through which the generator still learns.

Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training", with the strengths
of its official code.

Shapes: B images, C channels, S x S pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError

SHIFT = 0.125  # of the side, at most
HOLE = 0.5  # of the side


def policy(text: str) -> list[str]:
    """The names in `--augment`; raises DlkitError for others."""
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in POLICIES]:
        raise DlkitError(f"--augment {unknown[0]}: there is none, or some of {', '.join(POLICIES)}")
    return names


def augmented(images: Tensor, names: list[str]) -> Tensor:
    """Images (B, C, S, S) from -1 to 1, each changed in its own way."""
    for name in names:
        images = POLICIES[name](images)
    return images


def jitter_color(images: Tensor) -> Tensor:
    """Brightness by up to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device)
    images = images + (brightness - 0.5).to(images.dtype)
    if images.shape[1] > 1:
        gray = images.mean(dim=1, keepdim=True)
        images = gray + (images - gray) * (2 * saturation).to(images.dtype)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5).to(images.dtype)


def translated(images: Tensor) -> Tensor:
    """Shifted by up to an eighth of the side each way; 0, gray, comes in."""
    side = images.shape[-1]
    most = int(side * SHIFT + 0.5)
    down, right = torch.randint(-most, most + 1, (2, len(images), 1), device=images.device)
    places = torch.arange(side, device=images.device)
    # Row and column 0 of the padded image are the frame.
    rows = (places + down + 1).clamp(0, side + 1)[:, :, None]
    columns = (places + right + 1).clamp(0, side + 1)[:, None, :]
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[index, rows, columns].permute(0, 3, 1, 2)


def cut_out(images: Tensor) -> Tensor:
    """A square of half the side becomes 0; a part of it may lie outside."""
    side = images.shape[-1]
    hole = int(side * HOLE + 0.5)
    top, left = torch.randint(0, side + 1 - hole % 2, (2, len(images), 1), device=images.device)
    places = torch.arange(side, device=images.device)
    start = places + hole // 2
    in_rows = ((start >= top) & (start < top + hole))[:, :, None]
    in_columns = ((start >= left) & (start < left + hole))[:, None, :]
    return images * (~(in_rows & in_columns))[:, None].to(images.dtype)


POLICIES = {"color": jitter_color, "translation": translated, "cutout": cut_out}
