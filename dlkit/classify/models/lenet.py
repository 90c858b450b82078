"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998), with a softmax instead of the RBF output."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.network import Architecture, Network, map_shape

SIDE = 32  # pixels of the paper's images; smaller images are padded
# The input maps (of S2) of each map of C3 (table I of the paper).
TABLE = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, i + 1, i + 3, (i + 4) % 6) for i in range(3)),
    tuple(range(6)),
)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 x), with f(1) = 1 and f(-1) = -1 (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """The sum of 2 x 2 values, times a trainable coefficient per map, plus a bias per map."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps, 1, 1))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))
        uniform(self.coefficient, fan_in=4)

    def forward(self, x: Tensor) -> Tensor:
        return 4 * F.avg_pool2d(x, 2) * self.coefficient + self.bias


class TableConvolution(nn.Module):
    """A convolution in which each map uses only the input maps listed in `table`."""

    def __init__(self, table: tuple[tuple[int, ...], ...], inputs: int, kernel: int) -> None:
        super().__init__()
        pairs = [(to, source) for to, sources in enumerate(table) for source in sources]
        self.places = tuple(zip(*pairs, strict=True))
        self.shape = (len(table), inputs, kernel, kernel)
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(len(table)))

    def fill(self, initialize: Callable[[Tensor], Tensor]) -> None:
        """Initialize the weights like those of a full convolution, and biases to 0."""
        with torch.no_grad():
            self.weight.copy_(initialize(self.weight.new_empty(self.shape))[self.places])
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        kernels = self.weight.new_zeros(self.shape)
        kernels[self.places] = self.weight
        return F.conv2d(x, kernels, self.bias)


def lenet(arch: str, num_labels: int, image_size: int, channels: int = 3) -> Network:
    """Build LeNet-5: 60,000 parameters up to F6 for 32 x 32 gray pixels, as in the paper.

    C5 covers the whole maps of S4: 5 x 5 in the paper, more for larger images.
    """
    features = nn.Sequential()
    if image_size < SIDE:
        before = (SIDE - image_size) // 2
        after = SIDE - image_size - before
        # Replicate the border: padding of another gray would create an edge.
        features.add_module("pad", nn.ReplicationPad2d((before, after, before, after)))
    features.add_module("c1", nn.Conv2d(channels, 6, 5))
    features.add_module("tanh1", ScaledTanh())
    features.add_module("s2", Subsampling(6))
    features.add_module("tanh2", ScaledTanh())
    features.add_module("c3", TableConvolution(TABLE, 6, 5))
    features.add_module("tanh3", ScaledTanh())
    features.add_module("s4", Subsampling(16))
    features.add_module("tanh4", ScaledTanh())
    maps, height, width = map_shape(features, channels, image_size)
    head = nn.Sequential()
    head.add_module("c5", nn.Conv2d(maps, 120, (height, width)))
    head.add_module("tanh5", ScaledTanh())
    head.add_module("flat", nn.Flatten())
    head.add_module("f6", nn.Linear(120, 84))
    head.add_module("tanh6", ScaledTanh())
    head.add_module("output", nn.Linear(84, num_labels))
    for layer in (*features, *head):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            uniform(layer.weight, layer.weight[0].numel())
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        elif isinstance(layer, TableConvolution):
            for weight, to in zip(layer.weight, layer.places[0], strict=True):
                uniform(weight, len(TABLE[to]) * weight.numel())
    return Network(features, head)


def uniform(weight: Tensor, fan_in: int) -> None:
    """Uniform initialization of deviation 1 / sqrt(fan-in) ("Efficient BackProp", section 4.6).

    Appendix A's 2.4 / fan-in leaves only a thousandth of the image's contrast at F6.
    """
    limit = math.sqrt(3 / fan_in)
    nn.init.uniform_(weight, -limit, limit)


ARCHITECTURES = {"lenet": Architecture(lenet)}
