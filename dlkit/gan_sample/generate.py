"""Pictures from latent vectors, batch by batch.

Shapes: B pictures, C channels, S x S pixels, Z numbers of a latent vector.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlkit.core.parallel import device
from dlkit.gan_sample.data import to_bytes

BATCH = 32


@torch.inference_mode()
def decoded(
    model: Any, z: Tensor, labels: Tensor | None = None, precision: str = "auto"
) -> Iterator[Tensor]:
    """uint8 pictures (B, C, S, S) on the CPU, in batches, of vectors (N, Z) and labels (N,).

    All batches have BATCH rows inside, since the last digits of a matrix product depend on the
    number of rows: so a picture is the same whatever others are made with it.
    """
    place = next(model.parameters()).device
    for start in range(0, len(z), BATCH):
        rows = (start + torch.arange(BATCH)).clamp(max=len(z) - 1)
        given = None if labels is None else labels[rows].to(place)
        with device.autocast(place, precision):
            made = model.sample(z[rows].to(place), given)
        yield to_bytes(made[: len(z) - start]).cpu()


def cycled(numbers: range, classes: int | None) -> Tensor | None:
    """The classes (N,) of pictures of which none was asked: each in its turn."""
    return torch.tensor(numbers) % classes if classes else None
