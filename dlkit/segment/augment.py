"""Random changes of training images that move pixels: the masks move with them.

Shapes: K channels of an image, J of indices (the mask, and perhaps the numbers of objects),
h x w pixels before and H x W after.
"""

import math
import random

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.masks import IGNORED

ELASTIC_POINTS = 3  # a side, of the coarse grid that is bent (Ronneberger et al. 2015, section 3.1)


def moved(
    image: Tensor, indices: Tensor, size: tuple[int, int], config: SegmentTrainConfig
) -> tuple[Tensor, Tensor]:
    """A part (K, H, W) and (J, H, W) of an image (K, h, w) and its indices (J, h, w), all uint8.

    Mirrored, zoomed, rotated and bent in one interpolation; `size` is H, W. Beyond its border the
    image is mirrored, but the mask is IGNORED, and there are no objects.
    """
    grid = F.affine_grid(matrix(image.shape[-2:], size, config), [1, 1, *size], align_corners=False)
    if config.elastic:
        grid = grid + bending(image.shape[-2:], size, config.elastic)
    pixels = F.grid_sample(
        image[None].float(), grid, padding_mode="reflection", align_corners=False
    )
    nearest = F.grid_sample(indices[None].float(), grid, mode="nearest", align_corners=False)
    found = nearest[0].to(torch.uint8)
    outside = (grid[0].abs() > 1).any(dim=-1)
    found[0].masked_fill_(outside, IGNORED)
    found[1:].masked_fill_(outside, 0)
    return pixels[0].round().to(torch.uint8), found


def matrix(whole: torch.Size, size: tuple[int, int], config: SegmentTrainConfig) -> Tensor:
    """The affine map (1, 2, 3) from places of the result to places of the image, from -1 to 1."""
    height, width = whole
    zoom = config.scale ** random.uniform(-1, 1)
    angle = math.radians(random.uniform(-config.rotate, config.rotate))
    across = -1 if random.random() < config.flip else 1
    down = -1 if random.random() < config.flip_vertical else 1
    # Sides of the part, as shares of the image's.
    seen_x, seen_y = size[1] / (zoom * width), size[0] / (zoom * height)
    # The part lies inside the image, or the image inside the part.
    x, y = (random.uniform(-1, 1) * abs(1 - seen) for seen in (seen_x, seen_y))
    cos, sin = math.cos(angle), math.sin(angle)
    # What turns is pixels, so the sides' ratio counts in the mixed terms.
    mixed_x, mixed_y = size[0] / (zoom * width), size[1] / (zoom * height)
    return torch.tensor(
        [
            [
                [across * cos * seen_x, -down * sin * mixed_x, x],
                [across * sin * mixed_y, down * cos * seen_y, y],
            ]
        ]
    )


def bending(whole: torch.Size, size: tuple[int, int], pixels: float) -> Tensor:
    """Smooth random shifts (1, H, W, 2), as shares of half the image's sides.

    The shifts of a grid of 3 x 3 points have a standard deviation of `pixels`; between them they
    are interpolated bicubically, as in Ronneberger et al. 2015, section 3.1.
    """
    coarse = torch.randn(1, 2, ELASTIC_POINTS, ELASTIC_POINTS) * pixels
    fine = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    height, width = whole
    return (fine * torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1)).permute(0, 2, 3, 1)
