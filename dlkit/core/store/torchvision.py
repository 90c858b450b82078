"""Files of weights that torchvision publishes, under the names of our networks."""

from pathlib import Path

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError

NORM_EPS = 1e-5


def read(file: Path) -> dict[str, Tensor]:
    """The weights of a .pth file."""
    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DlkitError("not a file of weights; remove it and try again", file) from error
    return state


def weights_of(state: dict[str, Tensor], frozen_eps: bool) -> dict[str, Tensor]:
    """torchvision's weights under our names, without those of the auxiliary classifier.

    With `frozen_eps`, the norms were trained without epsilon: subtracting ours from the variance
    gives the same results. Frozen norms count no batches; ours expect the count.
    """
    weights = {}
    for name, tensor in state.items():
        if name.startswith("aux_classifier."):
            continue
        weights[f"network.{name}"] = tensor
        if name.endswith("running_var"):
            if frozen_eps:
                weights[f"network.{name}"] = (tensor - NORM_EPS).clamp(min=0)
            count = name.replace("running_var", "num_batches_tracked")
            weights.setdefault(f"network.{count}", torch.tensor(0))
    return weights
