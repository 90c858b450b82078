"""GoogLeNet (Szegedy et al. 2015) and Inception-v3 (2016), from torchvision's blocks.

With the auxiliary classifiers used in training. Batch norm in GoogLeNet, and its 3x3 convolutions
instead of 5x5, are torchvision's and not the paper's; the ImageNet weights need them. Layers have
torchvision's names.
"""

from collections import OrderedDict
from functools import partial
from typing import Any

from torch import nn
from torchvision.models.googlenet import GoogLeNet, Inception
from torchvision.models.inception import (
    Inception3,
    InceptionA,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)

from dlkit.classify.models.network import SMALL, Architecture, AuxiliaryNetwork, Network, PooledHead

AUXILIARY_V1 = {
    "inception4a": 512,
    "inception4d": 528,
}  # channels of the layers that auxiliary classifiers use
AUXILIARY_V3 = {"Mixed_6e": 768}
MIN_SIZE_V3 = 75  # pixels: smaller images need the small stem


class ConvBlock(nn.Sequential):
    """torchvision's BasicConv2d, with the ReLU as a replaceable module."""

    def __init__(self, inputs: int, outputs: int, **settings: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, bias=False, **settings)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)
        self.relu = nn.ReLU(inplace=True)


def googlenet(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    dropout: float = 0.2,
    auxiliary: bool = True,
) -> Network:
    """Build GoogLeNet; small images get a stem of 3x3 convolutions with one pooling."""
    whole = GoogLeNet(
        num_classes=1,
        aux_logits=False,
        init_weights=False,
        blocks=[ConvBlock, partial(Inception, conv_block=ConvBlock), nn.Module],
    )
    features = feature_layers(whole)
    if image_size <= SMALL:
        features.conv1 = ConvBlock(channels, 64, kernel_size=3, padding=1)
        features.maxpool1 = nn.Identity()
    elif channels != 3:
        features.conv1 = ConvBlock(channels, 64, kernel_size=7, stride=2, padding=3)
    classifiers: dict[str, nn.Module] = {}
    for name, inputs in AUXILIARY_V1.items() if auxiliary else ():
        classifiers[name] = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(4),
                conv=ConvBlock(inputs, 128, kernel_size=1),
                flat=nn.Flatten(),
                fc1=nn.Linear(2048, 1024),
                relu=nn.ReLU(inplace=True),
                dropout=nn.Dropout(0.7),
                fc2=nn.Linear(1024, num_labels),
            )
        )
    return build_network(features, PooledHead(1024, num_labels, dropout), classifiers)


def inception_v3(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    dropout: float = 0.5,
    auxiliary: bool = True,
) -> Network:
    """Build Inception-v3; small images get a padded stem with one pooling."""
    whole = Inception3(
        num_classes=1,
        aux_logits=False,
        init_weights=False,
        inception_blocks=[
            ConvBlock,
            *(
                partial(block, conv_block=ConvBlock)
                for block in (
                    InceptionA,
                    InceptionB,
                    InceptionC,
                    InceptionD,
                    InceptionE,
                )
            ),
            nn.Module,
        ],
    )
    features = feature_layers(whole)
    if image_size < MIN_SIZE_V3:
        features.Conv2d_1a_3x3 = ConvBlock(channels, 32, kernel_size=3, padding=1)
        features.Conv2d_2a_3x3 = ConvBlock(32, 32, kernel_size=3, padding=1)
        features.maxpool1 = nn.Identity()
        features.Conv2d_4a_3x3 = ConvBlock(80, 192, kernel_size=3, padding=1)
    elif channels != 3:
        features.Conv2d_1a_3x3 = ConvBlock(channels, 32, kernel_size=3, stride=2)
    classifiers: dict[str, nn.Module] = {}
    for name, inputs in AUXILIARY_V3.items() if auxiliary else ():
        classifiers[name] = nn.Sequential(
            OrderedDict(
                # At 299 pixels the map is 17x17, and both pools give 5x5.
                pool=nn.AvgPool2d(5, 3) if image_size >= 299 else nn.AdaptiveAvgPool2d(5),
                conv0=ConvBlock(inputs, 128, kernel_size=1),
                conv1=ConvBlock(128, 768, kernel_size=5),
                pool1=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
                fc=nn.Linear(768, num_labels),
            )
        )
    return build_network(features, PooledHead(2048, num_labels, dropout), classifiers)


def feature_layers(whole: nn.Module) -> nn.Sequential:
    """Return the layers before torchvision's pooling and classifier as one nn.Sequential."""
    names = [name for name, _ in whole.named_children()]
    kept = names[: names.index("avgpool")]
    return nn.Sequential(OrderedDict((name, whole.get_submodule(name)) for name in kept))


def build_network(
    features: nn.Sequential, head: PooledHead, classifiers: dict[str, nn.Module]
) -> Network:
    """Build and initialize a network, with auxiliary classifiers if there are any."""
    network = Network(features, head)
    if classifiers:
        network = AuxiliaryNetwork(features, head, classifiers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


ARCHITECTURES = {"googlenet": Architecture(googlenet), "inception-v3": Architecture(inception_v3)}
