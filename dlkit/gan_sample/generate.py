"""Generation of pictures from latent vectors, batch by batch.

Shapes: B pictures, C channels, S x S pixels, Z numbers of a latent vector.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dlkit.core.parallel import device
from dlkit.gan_sample.data import to_uint8
from dlkit.gan_sample.model import LatentModel

BATCH = 32


@torch.inference_mode()
def generate(
    model: LatentModel, z: Tensor, labels: Tensor | None = None, precision: str = "auto"
) -> Iterator[Tensor]:
    """Yield uint8 pictures (B, C, S, S) on the CPU for vectors (N, Z) and labels (N,).

    The network always sees BATCH rows, because the rounding of a matrix product depends on their
    number: so a picture does not depend on the others of its batch.
    """
    model_device = next(model.parameters()).device
    for start in range(0, len(z), BATCH):
        rows = (start + torch.arange(BATCH)).clamp(max=len(z) - 1)
        batch_labels = None if labels is None else labels[rows].to(model_device)
        with device.autocast(model_device, precision):
            images = model.sample(z[rows].to(model_device), batch_labels)
        yield to_uint8(images[: len(z) - start]).cpu()


def cycle_classes(numbers: range, classes: int | None) -> Tensor | None:
    """Labels (N,) of pictures without a requested class: their numbers modulo the classes."""
    return torch.tensor(numbers) % classes if classes else None
