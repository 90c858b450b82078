"""Networks on flat vectors of pixels: one linear layer, or several.

Softmax regression, Rosenblatt's perceptron (1958) and Widrow and Hoff's Adaline (1960) are the
same layer with different learning rules.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from dlkit.classify.models.network import Architecture, Network
from dlkit.core.errors import DlkitError

NORMS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def linear(arch: str, num_labels: int, image_size: int, channels: int = 3) -> Network:
    """Build a linear classifier, initialized to zero: its loss is convex."""
    layer = nn.Linear(channels * image_size**2, num_labels)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return Network(nn.Identity(), nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=layer)))


def mlp(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    hidden: str | Sequence[int] = "512,256",
    norm: str = "none",
    dropout: float = 0.0,
) -> Network:
    """Build a multilayer perceptron with hidden layers of the widths `hidden`."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = channels * image_size**2
    for width in parse_widths(hidden):
        layers += [nn.Linear(inputs, width)]
        if norm != "none":
            layers += [NORMS[norm](width)]
        layers += [nn.ReLU(inplace=True), nn.Dropout(dropout)]
        inputs = width
    return Network(nn.Identity(), nn.Sequential(*layers, nn.Linear(inputs, num_labels)))


def parse_widths(hidden: str | Sequence[int]) -> list[int]:
    """Parse widths such as "512,256"."""
    parts = hidden.split(",") if isinstance(hidden, str) else hidden
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = [0]
    if not numbers or min(numbers) < 1:
        raise DlkitError(f"hidden layers {hidden!r}: not widths; give numbers such as 512,256")
    return numbers


ARCHITECTURES = {
    **dict.fromkeys(("linear", "perceptron", "adaline"), Architecture(linear, flat=True)),
    "mlp": Architecture(mlp, flat=True, norms=tuple(NORMS)),
}
