"""Densely connected networks (Huang et al. 2017): torchvision's DenseNet-BC.

Layers have torchvision's names, so its ImageNet weights fit. For small images, the first
convolution has stride 1, as in the paper's CIFAR networks.
"""

from torch import nn
from torchvision.models import DenseNet

from dlkit.classify.models.network import SMALL, Architecture, Network, PooledHead

BLOCKS = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}


def densenet(
    arch: str, num_labels: int, image_size: int, channels: int = 3, dropout: float = 0.0
) -> Network:
    """Build a DenseNet; `dropout` follows each dense layer, as in the paper."""
    whole = DenseNet(32, BLOCKS[arch], 64, drop_rate=dropout, num_classes=1)
    features: nn.Sequential = whole.features
    first = nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
    if image_size <= SMALL:
        first = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        features.pool0 = nn.Identity()
    nn.init.kaiming_normal_(first.weight)
    features.conv0 = first
    features.add_module("relu5", nn.ReLU(inplace=True))
    return Network(features, PooledHead(whole.classifier.in_features, num_labels))


ARCHITECTURES = dict.fromkeys(BLOCKS, Architecture(densenet))
