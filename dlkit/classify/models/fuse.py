"""Fusion of batch norms into the preceding convolutions, for inference."""

import copy
from typing import TypeVar

from torch import nn
from torchvision.models.densenet import _DenseLayer as DenseLayer

from dlkit.classify.models.network import AuxiliaryNetwork
from dlkit.classify.models.resnet import BasicBlock, Bottleneck, PreactBlock
from dlkit.core.nn.fusion import fuse_conv_norm

Module = TypeVar("Module", bound=nn.Module)
# Convolutions and their norms in blocks other than nn.Sequential.
PAIRS: dict[type[nn.Module], list[tuple[str, str]]] = {
    BasicBlock: [("conv1", "bn1"), ("conv2", "bn2")],
    Bottleneck: [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")],
    PreactBlock: [("conv1", "bn2")],
    DenseLayer: [("conv1", "norm2")],
}


def fuse(network: Module) -> Module:
    """Return a copy in eval mode with batch norms folded into convolutions."""
    network = copy.deepcopy(network).eval()
    if isinstance(network, AuxiliaryNetwork):
        network.auxiliary.clear()  # for training only
    for block in list(network.modules()):
        for first, second in norm_pairs(block):
            fuse_conv_norm(block, first, second)
    return network


def norm_pairs(block: nn.Module) -> list[tuple[str, str]]:
    """Return the names of pairs of children where only the second uses the first's output."""
    if isinstance(block, nn.Sequential):
        names = [name for name, _ in block.named_children()]
        return list(zip(names, names[1:], strict=False))
    return PAIRS.get(type(block), [])
