"""MobileNet-v2 (Sandler et al. 2018) and -v3 large (Howard et al. 2019), from torchvision.

For small images, the first convolution and the first stage have stride 1, so that the stride of
the last map is 8, not 32.
"""

from collections import OrderedDict
from typing import Any

from torch import nn
from torchvision.models import mobilenet_v2 as torchvisions_v2
from torchvision.models import mobilenet_v3_large as torchvisions_v3

from dlkit.classify.models.network import SMALL, Architecture, Network, PooledHead


def mobilenet_v2(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    width_multiplier: float = 1.0,
    dropout: float = 0.2,
) -> Network:
    """Build MobileNet-v2."""
    whole = torchvisions_v2(num_classes=1, width_mult=width_multiplier)
    adapt(whole.features, whole.features[2].conv[1][0], channels, image_size)
    return Network(whole.features, PooledHead(whole.last_channel, num_labels, dropout))


def mobilenet_v3(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    width_multiplier: float = 1.0,
    dropout: float = 0.2,
) -> Network:
    """Build MobileNet-v3; its head has a hidden layer, so it has no class activation maps."""
    whole = torchvisions_v3(num_classes=num_labels, width_mult=width_multiplier, dropout=dropout)
    adapt(whole.features, whole.features[2].block[1][0], channels, image_size)
    head = nn.Sequential(
        OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), classifier=whole.classifier)
    )
    return Network(whole.features, head)


def adapt(features: Any, strided: nn.Conv2d, channels: int, image_size: int) -> None:
    """Adapt the first convolution to the images; for small images, remove two strides.

    `strided` is the depthwise convolution of the first block that halves the resolution.
    """
    stride = 2
    if image_size <= SMALL:
        stride, strided.stride = 1, (1, 1)
    first = nn.Conv2d(channels, features[0][0].out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out")
    features[0][0] = first


ARCHITECTURES = {
    "mobilenet-v2": Architecture(mobilenet_v2),
    "mobilenet-v3": Architecture(mobilenet_v3),
}
