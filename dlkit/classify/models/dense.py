"""Conversion to fully convolutional networks, for images of any size.

At each position, the converted head computes the network's output for a crop there (Sermanet et
al. 2014; Shelhamer et al. 2016). They are equal if the features use no padding; otherwise they
differ by the padding and by the receptive field beyond the crop.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.network import Network, map_shape
from dlkit.core.errors import DlkitError

MapSize = tuple[int, int]  # height and width


def dense(network: Network, image_size: int) -> nn.Sequential:
    """Convert to a network from images (B, channels, H, W) to class maps (B, L, h, w).

    `image_size` is the size that the network was trained for. The result is a copy in eval mode.
    """
    if isinstance(network.features, nn.Identity):
        raise DlkitError("a network on flat pixels has no class maps; choose a convolutional one")
    first = next(m for m in network.features.modules() if isinstance(m, nn.Conv2d))
    _, height, width = map_shape(network.features, first.in_channels, image_size)
    size = (height, width)
    head = nn.Sequential()
    pooled = size  # of an adaptive pool that is still to be folded into a linear layer
    for layer in iterate_layers(network.head):
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            pooled = layer.output_size, layer.output_size  # type: ignore[assignment]
            if pooled == (1, 1):
                head.append(nn.AvgPool2d(size, stride=1))
                size = pooled
        elif isinstance(layer, nn.AdaptiveMaxPool2d):
            head.append(nn.MaxPool2d(size, stride=1))
            size = pooled = (1, 1)
        elif isinstance(layer, nn.Conv2d):
            head.append(copy.deepcopy(layer))
            rows, columns = layer.kernel_size
            size = pooled = (size[0] - rows + 1, size[1] - columns + 1)
        elif isinstance(layer, nn.Linear):
            head.append(linear_to_convolution(layer, size, pooled))
            size = pooled = (1, 1)
        elif not isinstance(layer, nn.Flatten):
            head.append(copy.deepcopy(layer))
    return nn.Sequential(copy.deepcopy(network.features), head).eval()


def iterate_layers(head: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested nn.Sequential modules in order."""
    if isinstance(head, nn.Sequential):
        for layer in head:
            yield from iterate_layers(layer)
    else:
        yield head


def linear_to_convolution(layer: nn.Linear, size: MapSize, pooled: MapSize) -> nn.Conv2d:
    """Convert adaptive pooling from `size` to `pooled` and a linear layer to one convolution."""
    maps = layer.in_features // (pooled[0] * pooled[1])
    weight = layer.weight.detach().view(layer.out_features, maps, *pooled)
    if size != pooled:
        rows, columns = (pooling_matrix(s, p).to(weight) for s, p in zip(size, pooled, strict=True))
        weight = torch.einsum("okij,ih,jw->okhw", weight, rows, columns)
    bias = layer.bias is not None
    with torch.device(weight.device):
        convolution = nn.Conv2d(maps, layer.out_features, size, bias=bias, dtype=weight.dtype)
    convolution.weight = nn.Parameter(weight.clone())
    if bias:
        convolution.bias = nn.Parameter(layer.bias.detach().clone())
    return convolution


def pooling_matrix(size: int, pooled: int) -> Tensor:
    """Return adaptive average pooling as a matrix (pooled, size)."""
    return F.adaptive_avg_pool1d(torch.eye(size)[None], pooled)[0].T
