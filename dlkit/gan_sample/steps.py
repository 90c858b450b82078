"""Parts of the training loops.

Shapes: B images, C channels, S x S pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.core.train.run import Run


class GanStats:
    """Statistics of an epoch: both losses, and the discriminator's mean output on real and fake."""

    def __init__(self) -> None:
        self.discriminator: list[Tensor] = []
        self.generator: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def add(self, loss: Tensor, on_real: Tensor, on_fake: Tensor) -> None:
        """Record a step of the discriminator."""
        self.discriminator.append(loss.detach())
        self.outputs.append(torch.stack([on_real.detach().mean(), on_fake.detach().mean()]))

    def state_dict(self) -> dict[str, Any]:
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def means(self) -> dict[str, float]:
        on_real, on_fake = torch.stack(self.outputs).mean(dim=0).tolist()
        return {
            "discriminator_loss": float(torch.stack(self.discriminator).mean()),
            "generator_loss": float(torch.stack(self.generator).mean()),
            "output_on_real": on_real,
            "output_on_fake": on_fake,
        }


def random_flip(images: Tensor, share: float | None) -> Tensor:
    """Flip images (B, C, S, S) horizontally with probability `share`."""
    if not share:
        return images
    flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < share
    return torch.where(flipped, images.flip(3), images)


def stop_if_diverged(run: Run) -> None:
    """Raise DlkitError, before anything is saved, if a loss or weight is not finite."""
    run.check_loss()
    if not all(bool(weight.isfinite().all()) for weight in run.model.parameters()):
        raise DlkitError(
            f"weights are no longer finite in epoch {run.epoch + 1}; lower --lr"
            f" (now {run.config.lr}); {run.folder} keeps the last good model"
        )


@contextmanager
def freeze(module: nn.Module) -> Iterator[None]:
    """Disable the gradients of a module's weights, which makes the backward pass cheaper."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
