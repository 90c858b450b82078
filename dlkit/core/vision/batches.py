"""Batches of images of equal shape, from a stream of images of different shapes."""

from collections.abc import Iterator, Sequence

import torch

from dlkit.core.failures import Failure
from dlkit.core.vision.images import Picture

WINDOW = 8  # batches within which images are grouped by shape
BATCH_PIXELS = 4_000_000  # in a batch, at most: feature maps need hundreds of bytes for each

Entry = tuple[str, Picture] | Failure


def group_by_shape(window: Sequence[Entry], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of indices of pictures of equal shape."""
    shapes: dict[torch.Size, list[int]] = {}
    for index, entry in enumerate(window):
        if not isinstance(entry, Failure):
            shapes.setdefault(entry[1].pixels.shape, []).append(index)
    for shape, members in shapes.items():
        size = max(1, min(batch_size, BATCH_PIXELS // (shape[1] * shape[2])))
        yield from (members[start : start + size] for start in range(0, len(members), size))
