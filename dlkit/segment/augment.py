"""Geometric augmentation of training images together with their masks.

Shapes: K image channels, J index channels (the mask, optionally the object ids), h x w input
pixels, H x W output pixels.
"""

import math
import random

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.masks import IGNORED

ELASTIC_POINTS = 3  # per side of the displacement grid (Ronneberger et al. 2015, section 3.1)


def warp(
    image: Tensor, indices: Tensor, size: tuple[int, int], config: SegmentTrainConfig
) -> tuple[Tensor, Tensor]:
    """A random crop (K, H, W) and (J, H, W) of an image (K, h, w) and its indices (J, h, w).

    Flip, zoom, rotation and elastic deformation are one interpolation; `size` is H, W. All tensors
    are uint8. Beyond the border the image is reflected, the mask is IGNORED and no object exists.
    """
    grid = F.affine_grid(
        affine_matrix(image.shape[-2:], size, config), [1, 1, *size], align_corners=False
    )
    if config.elastic:
        grid = grid + elastic_shifts(image.shape[-2:], size, config.elastic)
    pixels = F.grid_sample(
        image[None].float(), grid, padding_mode="reflection", align_corners=False
    )
    nearest = F.grid_sample(indices[None].float(), grid, mode="nearest", align_corners=False)
    warped = nearest[0].to(torch.uint8)
    outside = (grid[0].abs() > 1).any(dim=-1)
    warped[0].masked_fill_(outside, IGNORED)
    warped[1:].masked_fill_(outside, 0)
    return pixels[0].round().to(torch.uint8), warped


def affine_matrix(
    image_size: torch.Size, size: tuple[int, int], config: SegmentTrainConfig
) -> Tensor:
    """A random affine map (1, 2, 3) from output to input coordinates, both from -1 to 1."""
    height, width = image_size
    zoom = config.zoom ** random.uniform(-1, 1)
    angle = math.radians(random.uniform(-config.rotate, config.rotate))
    across = -1 if random.random() < config.flip else 1
    down = -1 if random.random() < config.flip_vertical else 1
    # Sides of the crop as fractions of the image's sides.
    seen_x, seen_y = size[1] / (zoom * width), size[0] / (zoom * height)
    # The crop lies inside the image, or the image inside the crop.
    x, y = (random.uniform(-1, 1) * abs(1 - seen) for seen in (seen_x, seen_y))
    cos, sin = math.cos(angle), math.sin(angle)
    # Rotation happens in pixels, so the aspect ratio enters the mixed terms.
    mixed_x, mixed_y = size[0] / (zoom * width), size[1] / (zoom * height)
    return torch.tensor(
        [
            [
                [across * cos * seen_x, -down * sin * mixed_x, x],
                [across * sin * mixed_y, down * cos * seen_y, y],
            ]
        ]
    )


def elastic_shifts(image_size: torch.Size, size: tuple[int, int], pixels: float) -> Tensor:
    """Smooth random shifts (1, H, W, 2), as fractions of half the image's sides.

    The displacements of a 3 x 3 grid have a standard deviation of `pixels` and are interpolated
    bicubically, as in Ronneberger et al. 2015, section 3.1.
    """
    coarse = torch.randn(1, 2, ELASTIC_POINTS, ELASTIC_POINTS) * pixels
    fine = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    height, width = image_size
    return (fine * torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1)).permute(0, 2, 3, 1)
