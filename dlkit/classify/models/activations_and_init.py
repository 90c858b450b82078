"""What can be chosen in any architecture: the activation, and how the weights start."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.lenet import ScaledTanh, TableConvolution
from dlkit.core.errors import DlkitError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky-relu": partial(nn.LeakyReLU, 0.01),
    "elu": nn.ELU,
    "prelu": nn.PReLU,
    "swish": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
REPLACED = (nn.ReLU, nn.ReLU6, nn.Hardswish, ScaledTanh)  # what architectures come with
INITS: dict[str, Callable[[Tensor], Tensor]] = {
    "xavier": nn.init.xavier_uniform_,
    "he": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "normal": partial(nn.init.normal_, std=0.01),
    "zeros": nn.init.zeros_,
}


class UnitLength(nn.Module):
    """Descriptors (B, C, ...) of Euclidean length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


def activate(network: nn.Module, arch: str, activation: str) -> None:
    """Put another activation in place of the architecture's own; "auto" keeps that."""
    if activation == "auto":
        return
    if activation not in ACTIVATIONS:
        raise DlkitError(f"no activation {activation!r}: there is auto, {', '.join(ACTIVATIONS)}")
    places = [
        (module, name)
        for module in network.modules()
        for name, child in module.named_children()
        if isinstance(child, REPLACED)
    ]
    if not places:
        raise DlkitError(f"{arch} has no activation to choose: leave it at auto")
    for module, name in places:
        setattr(module, name, ACTIVATIONS[activation]())


def initialize(network: nn.Module, init: str) -> None:
    """Start linear layers and convolutions from other weights, and biases of 0."""
    if init == "auto":
        return
    if init not in INITS:
        raise DlkitError(f"no initialization {init!r}: there is auto, {', '.join(INITS)}")
    for module in network.modules():
        if isinstance(module, TableConvolution):
            module.fill(INITS[init])
        elif isinstance(module, nn.Conv2d | nn.Linear):
            INITS[init](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
