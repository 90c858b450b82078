"""Residual networks (He et al. 2015 and 2016), with stochastic depth (Huang et al. 2016).

Layers have torchvision's names, so its ImageNet weights fit; `width_multiplier` scales all
channels. resnet9 is the shallow, wide network of the CIFAR-10 speed records (Page 2018, "How to
train your ResNet"), with global average pooling before its last layer.
"""

from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from dlkit.classify.models.network import SMALL, Architecture, Network, PooledHead

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
    "preact-resnet": (2, 2, 2, 2),
}


class ResidualBlock(nn.Module):
    """relu(x + residual(x)), with stochastic depth: samples drop the residual at the rate `drop`.

    Kept residuals are scaled by 1 / (1 - drop) in training, so that inference needs no scaling.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, drop: float) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.drop = drop
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def residual(self, x: Tensor) -> Tensor:
        """Compute the residual; subclasses implement it."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        added = stochastic_depth(self.residual(x), self.drop, "row", self.training)
        out: Tensor = self.relu(added + self.downsample(x))
        return out


class BasicBlock(ResidualBlock):
    """Basic block: two 3x3 convolutions (He et al. 2015, figure 5, left)."""

    def __init__(self, inputs: int, width: int, stride: int, drop: float) -> None:
        super().__init__(inputs, width, stride, drop)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def residual(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return out


class Bottleneck(ResidualBlock):
    """Bottleneck block (figure 5, right); the 3x3 convolution has the stride, as in torchvision."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, drop: float) -> None:
        super().__init__(inputs, width, stride, drop)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.bn3(self.conv3(x))
        return out


class PreactBlock(nn.Module):
    """Pre-activation block: norm and ReLU before each convolution (He et al. 2016, figure 1b)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.relu = nn.ReLU(inplace=True)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != width:
            self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        # Where the shape changes, the shortcut also uses the activated input.
        kept = x if self.shortcut is None else self.shortcut(active)
        added = self.conv2(self.relu(self.bn2(self.conv1(active))))
        out: Tensor = kept + stochastic_depth(added, self.drop, "row", self.training)
        return out


def resnet(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    width_multiplier: float = 1.0,
    drop_path: float = 0.0,
    dropout: float = 0.0,
) -> Network:
    """Build a ResNet; the drop rate rises linearly over the blocks to `drop_path`."""
    kinds = {"resnet18": BasicBlock, "resnet34": BasicBlock, "preact-resnet": PreactBlock}
    block: type[BasicBlock | Bottleneck | PreactBlock] = kinds.get(arch, Bottleneck)  # type: ignore[assignment]
    counts = BLOCKS[arch]
    first = round(64 * width_multiplier)
    features = nn.Sequential()
    if image_size <= SMALL:
        features.add_module("conv1", nn.Conv2d(channels, first, 3, padding=1, bias=False))
    else:
        features.add_module("conv1", nn.Conv2d(channels, first, 7, 2, padding=3, bias=False))
    if block is not PreactBlock:
        features.add_module("bn1", nn.BatchNorm2d(first))
        features.add_module("relu", nn.ReLU(inplace=True))
    if image_size > SMALL:
        features.add_module("maxpool", nn.MaxPool2d(3, 2, padding=1))
    inputs, done = first, 0
    for stage, count in enumerate(counts):
        blocks = nn.Sequential()
        for index in range(count):
            drop = drop_path * (done + 1) / sum(counts)
            stride = 2 if stage > 0 and index == 0 else 1
            blocks.append(block(inputs, first * 2**stage, stride, drop))
            inputs, done = first * 2**stage * block.expansion, done + 1
        features.add_module(f"layer{stage + 1}", blocks)
    if block is PreactBlock:
        features.add_module("bn1", nn.BatchNorm2d(inputs))
        features.add_module("relu", nn.ReLU(inplace=True))
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Network(features, PooledHead(inputs, num_labels, dropout))


class ConvBlock(nn.Sequential):
    """Convolution, optional pooling, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, pool: bool = False) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
        if pool:
            self.append(nn.MaxPool2d(2))
        self.append(nn.BatchNorm2d(outputs))
        self.append(nn.ReLU(inplace=True))


class Residual(nn.Sequential):
    """x + f(x)."""

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        for layer in self:
            residual = layer(residual)
        return x + residual


def resnet9(
    arch: str,
    num_labels: int,
    image_size: int,
    channels: int = 3,
    width_multiplier: float = 1.0,
    dropout: float = 0.0,
) -> Network:
    """Build ResNet-9; images over 64 pixels get a patch convolution of stride 4 first."""
    one, two, four, eight = (round(64 * width_multiplier * factor) for factor in (1, 2, 4, 8))
    layers: list[nn.Module] = []
    if image_size > SMALL:
        layers += [nn.Conv2d(channels, channels * 16, 4, 4), nn.ReLU(inplace=True)]
        channels *= 16
    layers += [
        ConvBlock(channels, one),
        ConvBlock(one, two, pool=True),
        Residual(ConvBlock(two, two), ConvBlock(two, two)),
        ConvBlock(two, four, pool=True),
        ConvBlock(four, eight, pool=True),
        Residual(ConvBlock(eight, eight), ConvBlock(eight, eight)),
    ]
    return Network(nn.Sequential(*layers), PooledHead(eight, num_labels, dropout))


ARCHITECTURES = {**dict.fromkeys(BLOCKS, Architecture(resnet)), "resnet9": Architecture(resnet9)}
