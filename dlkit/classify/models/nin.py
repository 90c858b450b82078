"""Network in network (Lin, Chen and Yan 2014): perceptrons that slide over the image.

Each `mlpconv` is a convolution followed by two 1x1 convolutions. In the paper, the last 1x1
convolution has one map per label, whose spatial means are the logits; both are linear, so here
the mean comes first, in a PooledHead. The last ReLU is omitted, since logits may be negative.
"""

from torch import nn

from dlkit.classify.models.network import SMALL, Architecture, Network, PooledHead


class MlpConv(nn.Sequential):
    """A convolution followed by 1x1 convolutions, of these widths."""

    def __init__(
        self, inputs: int, *widths: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, widths[0], kernel, stride, padding), nn.ReLU(inplace=True)
        )
        for before, width in zip(widths, widths[1:], strict=False):
            self.append(nn.Conv2d(before, width, 1))
            self.append(nn.ReLU(inplace=True))


def nin(
    arch: str, num_labels: int, image_size: int, channels: int = 3, dropout: float = 0.5
) -> Network:
    """Build the paper's CIFAR network for small images, else the authors' ImageNet network."""
    if image_size <= SMALL:
        features = nn.Sequential(
            MlpConv(channels, 192, 160, 96, kernel=5, padding=2),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Dropout(dropout),
            MlpConv(96, 192, 192, 192, kernel=5, padding=2),
            nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Dropout(dropout),
            MlpConv(192, 192, 192, kernel=3, padding=1),
        )
        outputs = 192
    else:
        features = nn.Sequential(
            MlpConv(channels, 96, 96, 96, kernel=11, stride=4),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            MlpConv(96, 256, 256, 256, kernel=5, padding=2),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            MlpConv(256, 384, 384, 384, kernel=3, padding=1),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Dropout(dropout),
            MlpConv(384, 1024, 1024, kernel=3, padding=1),
        )
        outputs = 1024
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return Network(features, PooledHead(outputs, num_labels))


ARCHITECTURES = {"nin": Architecture(nin)}
