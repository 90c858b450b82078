"""Large pictures in tiles: the result is that of the whole picture, and there are no seams.

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

SMALL_SIDE = 768  # longest side of the small photograph that tells the whole one's statistics


class TiledFeatures(FeatureNetwork):
    """A feature network that computes its maps tile by tile, and again in the backward pass.

    So the maps between those that are asked for need memory for a tile only. Tiles are cut with as
    much around them as their maps see, so that maps and gradients are those of the whole picture.
    """

    def __init__(self, network: FeatureNetwork, tile: int) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(network))  # it is the same network, with the same weights
        self.tile = tile

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        self.check(layers)
        stride = max(self.stride(layer) for layer in layers)
        around = -(-self.reach(layers) // stride) * stride
        side = max(1, self.tile // stride) * stride
        height, width = images.shape[-2:]
        if max(height, width) <= side:
            return super().forward(images, layers)
        rows: list[dict[str, Tensor]] = []
        for top, bottom in parts(height, side):
            row = [
                self.part(images, layers, (top, bottom, left, right), around)
                for left, right in parts(width, side)
            ]
            rows.append({name: torch.cat([maps[name] for maps in row], dim=3) for name in layers})
        return {name: torch.cat([maps[name] for maps in rows], dim=2) for name in layers}

    def part(
        self, images: Tensor, layers: Sequence[str], box: tuple[int, int, int, int], around: int
    ) -> dict[str, Tensor]:
        """The maps of the pixels in a box: from top to bottom, from left to right."""
        top, bottom, left, right = box
        first_row, first_column = max(0, top - around), max(0, left - around)
        whole = super().forward

        def own(seen: Tensor) -> dict[str, Tensor]:
            return {
                name: maps[
                    ...,
                    (top - first_row) // stride : (bottom - first_row) // stride,
                    (left - first_column) // stride : (right - first_column) // stride,
                ].contiguous(memory_format=torch.channels_last)
                for name, maps in whole(seen, layers).items()
                for stride in [self.stride(name)]
            }

        seen = images[..., first_row : bottom + around, first_column : right + around]
        if not torch.is_grad_enabled():
            return own(seen)
        found: dict[str, Tensor] = checkpoint(own, seen, use_reentrant=False)
        return found

    def reach(self, layers: Sequence[str]) -> int:
        """How many pixels beyond its own a place of the deepest of these layers sees."""
        pixels, missing = 0, set(layers)
        for name, step in self.steps.items():
            if isinstance(step, nn.Conv2d):
                pixels += self.stride(name) * (step.kernel_size[0] // 2)
            missing.discard(name)
            if not missing:
                break
        return pixels


def parts(side: int, tile: int) -> Iterator[tuple[int, int]]:
    for start in range(0, side, tile):
        yield start, min(start + tile, side)


def paint_in_tiles(
    network: Painter, photo: Tensor, code: Tensor, strength: float, tile: int
) -> Tensor:
    """The painting (3, H, W) of a photograph (3, H, W), with the statistics of a small copy."""
    share = min(1.0, SMALL_SIDE / max(photo.shape[1:]))
    small = photo[None]
    if share < 1:
        size = [max(8, round(side * share)) for side in photo.shape[1:]]
        small = F.interpolate(small, size=size, mode="bilinear", antialias=True)
    with network.statistics_of(small, code):
        strips = in_tiles(
            lambda part: network.paint(part, code, strength), photo, tile, network.stride
        )
        return torch.cat(list(strips), dim=1)
