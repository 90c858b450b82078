"""Computation of large images in overlapping tiles, with a row of tiles in memory at a time.

A quarter of each overlap, at the tiles' ends, has weight 0, since a tile lacks the pixels beyond.
In the half between, one tile is blended into the next. So a network whose receptive field reaches
less than a quarter of the overlap gives the same result as for the whole image. (Global pooling, as
in deeplabv3, covers a tile only.)

Shapes: C channels, such as classes or colors; H x W pixels.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError

OVERLAP = 0.25  # of a tile's side
MAX_TILES = 10_000  # of an image

Spans = list[tuple[int, int]]


def spans(side: int, tile: int, stride: int) -> Spans:
    """First and last pixel (exclusive) of the tiles along a side.

    They start at multiples of the network's stride, and only the last may be shorter.
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


def check_tiles(tile: int, down: Spans, across: Spans) -> None:
    """Raise DlkitError for more than MAX_TILES tiles."""
    count = len(down) * len(across)
    if count > MAX_TILES:
        width, height = across[-1][1], down[-1][1]
        raise DlkitError(
            f"{count} tiles of side {tile} in {width} x {height} pixels; {MAX_TILES} at most: give"
            " larger ones"
        )


def tile_weights(tiles: Spans, side: int) -> list[Tensor]:
    """The weight of each tile at each of its pixels along a side; at each pixel their sum is 1."""
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
    """Yield the result of `work` on an image (3, H, W) as strips (C, rows, W) from the top down.

    `work` maps a tile (1, 3, h, w) to (1, C, h, w).
    """
    height, width = pixels.shape[-2:]
    down, across = spans(height, tile, stride), spans(width, tile, stride)
    check_tiles(tile, down, across)
    row_weights, column_weights = tile_weights(down, height), tile_weights(across, width)
    waiting: Tensor | None = None  # the rows that the next row of tiles overlaps
    for number, ((top, bottom), row_weight) in enumerate(zip(down, row_weights, strict=True)):
        strip: Tensor | None = None
        for (left, right), column_weight in zip(across, column_weights, strict=True):
            part = work(pixels[None, :, top:bottom, left:right])[0]
            if strip is None:
                strip = part.new_zeros(len(part), bottom - top, width)
            strip[:, :, left:right] += part * column_weight.to(part.device)
        assert strip is not None
        strip *= row_weight.to(strip.device)[:, None]
        if waiting is not None:
            strip[:, : waiting.shape[1]] += waiting
        if number + 1 == len(down):
            yield strip
        else:
            done = down[number + 1][0] - top
            yield strip[:, :done]
            waiting = strip[:, done:].clone()
