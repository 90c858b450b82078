"""GoogLeNet (Szegedy et al. 2015) and Inception-v3 (2016), from torchvision's blocks.

With their auxiliary classifiers, which help in training only. Two things are torchvision's and
not the papers': batch norm in GoogLeNet, and its 3x3 convolutions in place of 5x5; the ImageNet
weights need them. Layers are named as there.
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

from dlkit.classify.models.network import SMALL, AuxiliaryNetwork, Network, PooledHead

AUXILIARY_V1 = {"inception4a": 512, "inception4d": 528}  # layers seen by a classifier: their maps
AUXILIARY_V3 = {"Mixed_6e": 768}
SMALLEST_V3 = 75  # pixels: fewer leave nothing of the whole Inception-v3's maps


class ConvBlock(nn.Sequential):
    """torchvision's BasicConv2d, with its ReLU as a layer that can be replaced."""

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
    """Small images: a stem of 3x3 convolutions that is pooled once."""
    whole = GoogLeNet(
        num_classes=1,
        aux_logits=False,
        init_weights=False,
        blocks=[ConvBlock, partial(Inception, conv_block=ConvBlock), nn.Module],
    )
    features = layers_of(whole)
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
    return with_auxiliary(features, PooledHead(1024, num_labels, dropout), classifiers)


def inception_v3(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    dropout: float = 0.5,
    auxiliary: bool = True,
) -> Network:
    """Small images: a padded stem that is pooled once, for the same maps at 64 as at 299."""
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
    features = layers_of(whole)
    if image_size < SMALLEST_V3:
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
                # Of the 17x17 places from 299 pixels both pools make 5x5.
                pool=nn.AvgPool2d(5, 3) if image_size >= 299 else nn.AdaptiveAvgPool2d(5),
                conv0=ConvBlock(inputs, 128, kernel_size=1),
                conv1=ConvBlock(128, 768, kernel_size=5),
                pool1=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
                fc=nn.Linear(768, num_labels),
            )
        )
    return with_auxiliary(features, PooledHead(2048, num_labels, dropout), classifiers)


def layers_of(whole: nn.Module) -> nn.Sequential:
    """The layers before torchvision's pooling and classifier, which run one after the other."""
    names = [name for name, _ in whole.named_children()]
    kept = names[: names.index("avgpool")]
    return nn.Sequential(OrderedDict((name, whole.get_submodule(name)) for name in kept))


def with_auxiliary(
    features: nn.Sequential, head: PooledHead, classifiers: dict[str, nn.Module]
) -> Network:
    network = Network(features, head)
    if classifiers:
        network = AuxiliaryNetwork(features, head, classifiers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network
