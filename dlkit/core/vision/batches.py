"""Batches of images of one shape, from a stream of images of several."""

from collections.abc import Iterator, Sequence

import torch

from dlkit.core.failures import Failure
from dlkit.core.vision.images import Picture

WINDOW = 8  # batches among which images of one shape are looked for
WINDOW_PIXELS = 64_000_000  # most that wait there decoded
BATCH_PIXELS = 4_000_000  # most in a batch: a network's maps need hundreds of bytes for each

Entry = tuple[str, Picture] | Failure


def next_window(pictures: Iterator[Entry], most: int) -> list[Entry]:
    """The next entries: `most` of them, or as many as memory should hold."""
    window: list[Entry] = []
    pixels = 0
    while len(window) < most and pixels < WINDOW_PIXELS:
        entry = next(pictures, None)
        if entry is None:
            break
        window.append(entry)
        pixels += 0 if isinstance(entry, Failure) else entry[1].pixels[0].numel()
    return window


def of_one_shape(window: Sequence[Entry], batch_size: int) -> Iterator[list[int]]:
    """Batches of the places of pictures with equal shapes."""
    shapes: dict[torch.Size, list[int]] = {}
    for index, entry in enumerate(window):
        if not isinstance(entry, Failure):
            shapes.setdefault(entry[1].pixels.shape, []).append(index)
    for shape, members in shapes.items():
        size = max(1, min(batch_size, BATCH_PIXELS // (shape[1] * shape[2])))
        yield from (members[start : start + size] for start in range(0, len(members), size))
