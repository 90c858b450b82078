"""AlexNet (Krizhevsky, Sutskever and Hinton 2012), on one device.

Without the split over two GPUs, convolutions 2, 4 and 5 see all maps: conv5 has 884,736 weights.
Local response normalization, overlapping pooling and dropout follow the paper.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.network import SMALL, Architecture, Network, map_shape


class ResponseNorm(nn.Module):
    """Local response normalization over n = 5 maps: k = 2, alpha = 1e-4, beta = 0.75.

    The sum over neighboring maps is a 1x1 convolution with a band matrix of ones, four times as
    fast as nn.LocalResponseNorm (which divides alpha by n).
    """

    def forward(self, x: Tensor) -> Tensor:
        maps = x.shape[1]
        band = torch.ones(maps, maps, dtype=x.dtype, device=x.device).tril(2).triu(-2)
        scale = 2 + 1e-4 * F.conv2d(x.square(), band[:, :, None, None])
        return x * (scale.rsqrt() * scale.sqrt().rsqrt())  # scale ** -0.75


def alexnet(
    arch: str, num_labels: int, image_size: int, channels: int = 3, dropout: float = 0.5
) -> Network:
    """Build AlexNet; small images get stride 1 in conv1 and a quarter of the hidden units."""
    if image_size <= SMALL:
        first, units = nn.Conv2d(channels, 96, 5, padding=2), 1024
    else:
        # A map of 55 x 55, as in the paper: from 227 pixels without padding, from 224 with it.
        padding = 0 if (image_size - 11) % 4 == 0 else 2
        first, units = nn.Conv2d(channels, 96, 11, 4, padding), 4096
    features = nn.Sequential()
    features.add_module("conv1", first)
    features.add_module("relu1", nn.ReLU(inplace=True))
    features.add_module("norm1", ResponseNorm())
    features.add_module("pool1", nn.MaxPool2d(3, 2))
    features.add_module("conv2", nn.Conv2d(96, 256, 5, padding=2))
    features.add_module("relu2", nn.ReLU(inplace=True))
    features.add_module("norm2", ResponseNorm())
    features.add_module("pool2", nn.MaxPool2d(3, 2))
    features.add_module("conv3", nn.Conv2d(256, 384, 3, padding=1))
    features.add_module("relu3", nn.ReLU(inplace=True))
    features.add_module("conv4", nn.Conv2d(384, 384, 3, padding=1))
    features.add_module("relu4", nn.ReLU(inplace=True))
    features.add_module("conv5", nn.Conv2d(384, 256, 3, padding=1))
    features.add_module("relu5", nn.ReLU(inplace=True))
    features.add_module("pool5", nn.MaxPool2d(3, 2))
    maps, height, width = map_shape(features, channels, image_size)
    head = nn.Sequential()
    head.add_module("flat", nn.Flatten())
    head.add_module("dropout6", nn.Dropout(dropout))
    head.add_module("fc6", nn.Linear(maps * height * width, units))
    head.add_module("relu6", nn.ReLU(inplace=True))
    head.add_module("dropout7", nn.Dropout(dropout))
    head.add_module("fc7", nn.Linear(units, units))
    head.add_module("relu7", nn.ReLU(inplace=True))
    head.add_module("fc8", nn.Linear(units, num_labels))
    for name, layer in (*features.named_children(), *head.named_children()):
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if image_size > SMALL or name == "fc8":
            nn.init.normal_(layer.weight, std=0.01)
        else:  # 0.01 is too small for these narrower layers
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        # Section 5: biases of 1 give the ReLUs positive inputs at the start.
        positive = image_size > SMALL and name in ("conv2", "conv4", "conv5", "fc6", "fc7")
        nn.init.constant_(layer.bias, float(positive))  # type: ignore[arg-type]
    return Network(features, head)


ARCHITECTURES = {"alexnet": Architecture(alexnet)}
