"""Fusion of batch norms into convolutions, for inference."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_conv_norm(block: nn.Module, convolution: str, norm: str) -> bool:
    """Fold the child `norm` of a block in eval mode into its child `convolution`.

    Returns whether it did: other pairs than Conv2d and BatchNorm2d stay as they are.
    """
    first, second = block.get_submodule(convolution), block.get_submodule(norm)
    if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)):
        return False
    setattr(block, convolution, fuse_conv_bn_eval(first, second))
    setattr(block, norm, nn.Identity())
    return True
