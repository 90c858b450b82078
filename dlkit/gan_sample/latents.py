"""Latent vectors that depend only on the seed and the number of the picture.

Shapes: B pictures, Z numbers of a latent vector.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def draw(seed: int, numbers: Iterable[int], size: int, truncation: float | None = None) -> Tensor:
    """Latent vectors (B, Z) of the pictures of these numbers, each with its own generator.

    They are standard normal; `truncation` maps them monotonically to the normal distribution
    truncated to -truncation..truncation (Brock et al. 2019).
    """
    rows = [np.random.default_rng([seed, n]).standard_normal(size, np.float32) for n in numbers]
    z = torch.from_numpy(np.stack(rows) if rows else np.empty((0, size), np.float32))
    if truncation is None:
        return z
    lowest = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.double))
    shares = lowest + (1 - 2 * lowest) * torch.special.ndtr(z.double())
    normals: Tensor = torch.special.ndtri(shares).float()
    return normals


def slerp(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation from `start` (Z,) to `end` (Z,) at `shares` (B,) of the arc: (B, Z).

    Shoemake 1985; White 2016: unlike linear interpolation, it keeps the norm of the vectors.
    """
    cosine = torch.dot(start / start.norm(), end / end.norm()).clamp(-1, 1)
    angle = torch.acos(cosine)
    if float(angle.sin()) < 1e-4:  # parallel vectors: the arc is not unique
        return torch.lerp(start, end, shares[:, None])
    first = torch.sin((1 - shares) * angle) / angle.sin()
    second = torch.sin(shares * angle) / angle.sin()
    return first[:, None] * start + second[:, None] * end
