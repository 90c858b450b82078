"""Networks on flat vectors of pixels: one linear layer, or several.

Softmax regression, Rosenblatt's perceptron (1958) and Widrow and Hoff's Adaline (1960) are the
same layer; what differs is the rule by which it learns.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from dlkit.classify.models.network import Network
from dlkit.core.errors import DlkitError

NORMS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def linear(arch: str, num_labels: int, image_size: int, channels: int = 3) -> Network:
    """Its problem has one optimum, so it starts from zeros: nothing random is in its templates."""
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
    """`hidden` are the widths of the hidden layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = channels * image_size**2
    for width in widths(hidden):
        layers += [nn.Linear(inputs, width)]
        if norm != "none":
            layers += [NORMS[norm](width)]
        layers += [nn.ReLU(inplace=True), nn.Dropout(dropout)]
        inputs = width
    return Network(nn.Identity(), nn.Sequential(*layers, nn.Linear(inputs, num_labels)))


def widths(hidden: str | Sequence[int]) -> list[int]:
    """The numbers of "512,256"."""
    parts = hidden.split(",") if isinstance(hidden, str) else hidden
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = [0]
    if not numbers or min(numbers) < 1:
        raise DlkitError(f"hidden layers {hidden!r}: give their widths, such as 512,256")
    return numbers
