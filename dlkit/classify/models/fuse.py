"""The form for inference: batch norm folded into the convolutions it follows."""

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.densenet import _DenseLayer as DenseLayer

from dlkit.classify.models.network import AuxiliaryNetwork
from dlkit.classify.models.resnet import BasicBlock, Bottleneck, PreactBlock

Module = TypeVar("Module", bound=nn.Module)
# Which norm follows which convolution in blocks that are no nn.Sequential.
PAIRS: dict[type[nn.Module], list[tuple[str, str]]] = {
    BasicBlock: [("conv1", "bn1"), ("conv2", "bn2")],
    Bottleneck: [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")],
    PreactBlock: [("conv1", "bn2")],
    DenseLayer: [("conv1", "norm2")],
}


def fuse(network: Module) -> Module:
    """A copy in evaluation mode with fewer layers and the same outputs."""
    network = copy.deepcopy(network).eval()
    if isinstance(network, AuxiliaryNetwork):
        network.auxiliary.clear()  # they help in training only
    for block in list(network.modules()):
        for first, second in pairs(block):
            convolution, norm = block.get_submodule(first), block.get_submodule(second)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, first, fuse_conv_bn_eval(convolution, norm))
                setattr(block, second, nn.Identity())
    return network


def pairs(block: nn.Module) -> list[tuple[str, str]]:
    """The names of children of which the second sees what the first makes, and nothing else."""
    if isinstance(block, nn.Sequential):
        names = [name for name, _ in block.named_children()]
        return list(zip(names, names[1:], strict=False))
    return PAIRS.get(type(block), [])
