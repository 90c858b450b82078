"""Large images in tiles that overlap, so that memory holds a row of tiles and not the image.

A quarter of each overlap, at the tiles' ends, counts nothing: there a tile lacks the pixels beyond.
In the half between, one tile fades into the next. So a network that sees no farther than a
quarter of the overlap gives what it gives for the whole image. (One with a view of the whole image,
such as deeplabv3's pooling, sees a tile's only.)

Shapes: C numbers for each pixel, such as classes or colors; H x W pixels.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

OVERLAP = 0.25  # of a tile's side

Spans = list[tuple[int, int]]


def spans(side: int, tile: int, stride: int) -> Spans:
    """First and last pixel (exclusive) of the tiles along a side.

    They start at multiples of the network's stride, as its maps of the whole image do, and only
    the last may be shorter than the others.
    """
    tile = max(-(-tile // stride), 2) * stride
    step = max(1, int(tile * (1 - OVERLAP)) // stride) * stride
    found = []
    for start in range(0, side, step):
        found.append((start, min(start + tile, side)))
        if start + tile >= side:
            break
    if len(found) > 1:
        last = -(-(side - tile) // stride) * stride
        found[-1] = (last, side)
    return found


def shares(tiles: Spans, side: int) -> list[Tensor]:
    """How much each tile counts at each of its pixels along the side; together they are 1."""
    weights = [torch.ones(stop - start) for start, stop in tiles]
    for (left, right), ((_, end), (begin, _)) in zip(
        pairwise(weights), pairwise(tiles), strict=True
    ):
        shared = end - begin
        ramp = ((torch.arange(shared) + 0.5) / shared * 2 - 0.5).clamp(0, 1)
        left[-shared:] *= 1 - ramp
        right[:shared] *= ramp
    total = torch.zeros(side)
    for (start, stop), weight in zip(tiles, weights, strict=True):
        total[start:stop] += weight
    for (start, stop), weight in zip(tiles, weights, strict=True):
        weight /= total[start:stop]
    return weights


def in_tiles(
    work: Callable[[Tensor], Tensor], pixels: Tensor, tile: int, stride: int
) -> Iterator[Tensor]:
    """What `work` makes of an image (3, H, W): strips (C, rows, W) from the top down.

    `work` turns a part (1, 3, h, w) into numbers (1, C, h, w).
    """
    height, width = pixels.shape[-2:]
    down, across = spans(height, tile, stride), spans(width, tile, stride)
    row_shares, column_shares = shares(down, height), shares(across, width)
    waiting: Tensor | None = None  # of the rows above, what the next row of tiles adds to
    for number, ((top, bottom), row_share) in enumerate(zip(down, row_shares, strict=True)):
        strip: Tensor | None = None
        for (left, right), column_share in zip(across, column_shares, strict=True):
            part = work(pixels[None, :, top:bottom, left:right])[0]
            if strip is None:
                strip = part.new_zeros(len(part), bottom - top, width)
            strip[:, :, left:right] += part * column_share.to(part.device)
        assert strip is not None
        strip *= row_share.to(strip.device)[:, None]
        if waiting is not None:
            strip[:, : waiting.shape[1]] += waiting
        if number + 1 == len(down):
            yield strip
        else:
            done = down[number + 1][0] - top
            yield strip[:, :done]
            waiting = strip[:, done:].clone()
