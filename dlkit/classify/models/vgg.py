"""VGG: nothing but 3x3 convolutions and 2x2 pools (Simonyan and Zisserman 2015).

Layers have torchvision's numbers, so its ImageNet weights fit.
"""

from collections import OrderedDict

from torch import nn

from dlkit.classify.models.network import SMALL, Architecture, Network

# Convolutions in each of the five stages: columns A, B, D and E of the paper's table 1.
STAGES = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)


def vgg(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    norm: str = "none",
    dropout: float = 0.5,
    width_multiplier: float = 1.0,
) -> Network:
    """Build a VGG network; `width_multiplier` scales the channels of all layers.

    For small images, it has four pooling layers instead of five, and 512 units instead of 4096.
    """
    small = image_size <= SMALL
    layers: list[nn.Module] = []
    for count, width in zip(STAGES[arch], WIDTHS, strict=True):
        outputs = round(width * width_multiplier)
        for _ in range(count):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1)]
            if norm == "batch":
                layers += [nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(inplace=True)]
            channels = outputs
        layers += [nn.MaxPool2d(2)]
    features = nn.Sequential(*(layers[:-1] if small else layers))
    side, units = (1, 512) if small else (7, 4096)
    units = round(units * width_multiplier)
    classifier = nn.Sequential(
        nn.Linear(channels * side**2, units),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(units, units),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(units, num_labels),
    )
    pool, flat = nn.AdaptiveAvgPool2d(side), nn.Flatten()
    for layer in (*features, *classifier):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    head = nn.Sequential(OrderedDict(pool=pool, flat=flat, classifier=classifier))
    return Network(features, head)


ARCHITECTURES = dict.fromkeys(STAGES, Architecture(vgg))
