"""Options of all architectures: activation and weight initialization."""

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
REPLACED = (nn.ReLU, nn.ReLU6, nn.Hardswish, ScaledTanh)  # the architectures' own
INITS: dict[str, Callable[[Tensor], Tensor]] = {
    "xavier": nn.init.xavier_uniform_,
    "he": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "normal": partial(nn.init.normal_, std=0.01),
    "zeros": nn.init.zeros_,
}


class UnitLength(nn.Module):
    """Normalize descriptors (B, C, ...) to Euclidean length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


def activate(network: nn.Module, arch: str, activation: str) -> None:
    """Replace the activations of a network; "auto" keeps the architecture's own."""
    if activation == "auto":
        return
    if activation not in ACTIVATIONS:
        raise DlkitError(
            f"unknown activation {activation!r}; choose from auto, {', '.join(ACTIVATIONS)}"
        )
    activations = [
        (module, name)
        for module in network.modules()
        for name, child in module.named_children()
        if isinstance(child, REPLACED)
    ]
    if not activations:
        raise DlkitError(f"{arch} has no option activation; leave it at auto")
    for module, name in activations:
        setattr(module, name, ACTIVATIONS[activation]())


def initialize(network: nn.Module, init: str) -> None:
    """Initialize the weights of linear layers and convolutions, and set biases to 0."""
    if init == "auto":
        return
    if init not in INITS:
        raise DlkitError(f"unknown initialization {init!r}; choose from auto, {', '.join(INITS)}")
    for module in network.modules():
        if isinstance(module, TableConvolution):
            module.fill(INITS[init])
        elif isinstance(module, nn.Conv2d | nn.Linear):
            INITS[init](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
