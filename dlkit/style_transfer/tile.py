"""Tiled computation for large pictures, without seams.

Shapes: B images, K maps, H x W pixels.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dlkit.core.vision.tile import in_tiles
from dlkit.style_transfer.models.features import FeatureNetwork
from dlkit.style_transfer.models.painter import Painter

THUMBNAIL_SIDE = 768  # longest side of the thumbnail for statistics


class TiledFeatures(FeatureNetwork):
    """A feature network that computes maps tile by tile, with gradient checkpointing.

    Intermediate maps need memory for one tile only. Tiles have a margin of their receptive field,
    so that maps and gradients equal those of the whole picture.
    """

    def __init__(self, network: FeatureNetwork, tile: int) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(network))  # the same network, sharing its weights
        self.tile = tile

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        self.check(layers)
        stride = max(self.stride(layer) for layer in layers)
        around = -(-self.margin(layers) // stride) * stride
        side = max(1, self.tile // stride) * stride
        height, width = images.shape[-2:]
        if max(height, width) <= side:
            return super().forward(images, layers)
        rows: list[dict[str, Tensor]] = []
        for top, bottom in split_range(height, side):
            row = [
                self.compute_tile(images, layers, (top, bottom, left, right), around)
                for left, right in split_range(width, side)
            ]
            rows.append({name: torch.cat([maps[name] for maps in row], dim=3) for name in layers})
        return {name: torch.cat([maps[name] for maps in rows], dim=2) for name in layers}

    def compute_tile(
        self, images: Tensor, layers: Sequence[str], box: tuple[int, int, int, int], around: int
    ) -> dict[str, Tensor]:
        """The maps of the pixels in a box (top, bottom, left, right)."""
        top, bottom, left, right = box
        first_row, first_column = max(0, top - around), max(0, left - around)
        whole = super().forward

        def crop_maps(padded: Tensor) -> dict[str, Tensor]:
            return {
                name: maps[
                    ...,
                    (top - first_row) // stride : (bottom - first_row) // stride,
                    (left - first_column) // stride : (right - first_column) // stride,
                ].contiguous(memory_format=torch.channels_last)
                for name, maps in whole(padded, layers).items()
                for stride in [self.stride(name)]
            }

        padded = images[..., first_row : bottom + around, first_column : right + around]
        if not torch.is_grad_enabled():
            return crop_maps(padded)
        maps: dict[str, Tensor] = checkpoint(crop_maps, padded, use_reentrant=False)
        return maps

    def margin(self, layers: Sequence[str]) -> int:
        """The extent in pixels of the deepest layer's receptive field to each side."""
        pixels, missing = 0, set(layers)
        for name, step in self.steps.items():
            if isinstance(step, nn.Conv2d):
                pixels += self.stride(name) * (step.kernel_size[0] // 2)
            missing.discard(name)
            if not missing:
                break
        return pixels


def split_range(side: int, tile: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each tile of a side."""
    for start in range(0, side, tile):
        yield start, min(start + tile, side)


def paint_in_tiles(
    network: Painter, photo: Tensor, code: Tensor, strength: float, tile: int
) -> Tensor:
    """Paint a photograph (3, H, W) in tiles, with the statistics of a thumbnail."""
    share = min(1.0, THUMBNAIL_SIDE / max(photo.shape[1:]))
    thumbnail = photo[None]
    if share < 1:
        size = [max(8, round(side * share)) for side in photo.shape[1:]]
        thumbnail = F.interpolate(thumbnail, size=size, mode="bilinear", antialias=True)
    with network.use_statistics(thumbnail, code):
        strips = in_tiles(
            lambda part: network.paint(part, code, strength), photo, tile, network.stride
        )
        return torch.cat(list(strips), dim=1)
