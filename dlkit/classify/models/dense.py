"""Networks for images of any size: the fully connected head becomes convolutions.

At every place where the head's window fits on the map it says what the network would say of a
crop there (Sermanet et al. 2014; Shelhamer et al. 2016). The two are equal if nothing in the
features is padded; padding, and what a place sees beyond the crop, are the difference.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.network import Network, map_shape
from dlkit.core.errors import DlkitError

Places = tuple[int, int]  # height and width of a map


def dense(network: Network, image_size: int) -> nn.Sequential:
    """A network in evaluation mode for images (B, channels, H, W): class maps (B, C, h', w').

    `image_size` is the size that the network was trained for. The weights are copies.
    """
    if isinstance(network.features, nn.Identity):
        raise DlkitError("no class maps from a network on flat pixels: it sees no places")
    first = next(m for m in network.features.modules() if isinstance(m, nn.Conv2d))
    _, height, width = map_shape(network.features, first.in_channels, image_size)
    size = (height, width)
    head = nn.Sequential()
    pooled = size  # places after an adaptive pool that is yet to be folded into a linear layer
    for layer in layers_of(network.head):
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            pooled = layer.output_size, layer.output_size  # type: ignore[assignment]
            if pooled == (1, 1):
                head.append(nn.AvgPool2d(size, stride=1))
                size = pooled
        elif isinstance(layer, nn.Conv2d):
            head.append(copy.deepcopy(layer))
            rows, columns = layer.kernel_size
            size = pooled = (size[0] - rows + 1, size[1] - columns + 1)
        elif isinstance(layer, nn.Linear):
            head.append(as_convolution(layer, size, pooled))
            size = pooled = (1, 1)
        elif not isinstance(layer, nn.Flatten):
            head.append(copy.deepcopy(layer))
    return nn.Sequential(copy.deepcopy(network.features), head).eval()


def layers_of(head: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested sequences, one after the other."""
    if isinstance(head, nn.Sequential):
        for layer in head:
            yield from layers_of(layer)
    else:
        yield head


def as_convolution(layer: nn.Linear, size: Places, pooled: Places) -> nn.Conv2d:
    """The linear layer on a map of `size`, averaged to `pooled` places, as one convolution."""
    maps = layer.in_features // (pooled[0] * pooled[1])
    weight = layer.weight.detach().view(layer.out_features, maps, *pooled)
    if size != pooled:
        rows, columns = (averages(s, p).to(weight) for s, p in zip(size, pooled, strict=True))
        weight = torch.einsum("okij,ih,jw->okhw", weight, rows, columns)
    with torch.device(weight.device):
        convolution = nn.Conv2d(maps, layer.out_features, tuple(size), dtype=weight.dtype)  # type: ignore[arg-type]
    convolution.weight = nn.Parameter(weight.clone())
    convolution.bias = nn.Parameter(layer.bias.detach().clone())
    return convolution


def averages(size: int, places: int) -> Tensor:
    """The matrix (places, size) by which adaptive average pooling multiplies."""
    return F.adaptive_avg_pool1d(torch.eye(size)[None], places)[0].T
