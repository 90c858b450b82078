"""Classification losses.

Shapes: B samples, L labels, D numbers of a descriptor.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.network import WithAuxiliary

AUXILIARY = 0.3  # weight of GoogLeNet's auxiliary classifiers (Szegedy et al. 2015, section 5)


def perceptron_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Perceptron criterion; a step of rate 1 on one sample is Rosenblatt's rule.

    The highest wrong logit minus the correct one, or 0 if that is negative (a tie is a mistake,
    too); for more than two labels it is Duda and Hart's multicategory rule.
    """
    correct = logits.gather(1, targets[:, None])
    wrong = logits.scatter(1, targets[:, None], -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(wrong >= correct, wrong - correct, 0.0).mean()


def adaline_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error to targets of +1 and -1; its step is Widrow and Hoff's LMS rule."""
    signs = 2 * F.one_hot(targets, logits.shape[1]).to(logits.dtype) - 1
    return 0.5 * (logits - signs).square().sum(dim=1).mean()


def classification_loss(
    output: Tensor | WithAuxiliary, criterion: Callable[[Tensor], Tensor]
) -> Tensor:
    """Add the weighted losses of auxiliary classifiers to the loss of the logits."""
    if isinstance(output, WithAuxiliary):
        auxiliary = [criterion(logits.float()) for logits in output.auxiliary]
        return criterion(output.logits.float()) + AUXILIARY * torch.stack(auxiliary).sum()
    return criterion(output.float())


def triplet_loss(descriptors: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Semi-hard triplet loss (Schroff et al. 2015, section 3.2) of unit descriptors (B, D).

    For each pair with the same label, the negative is the closest one farther away than the
    positive, or else the farthest one. Distances are squared.
    """
    distances = (2 - 2 * descriptors @ descriptors.T).clamp(min=0)
    same = targets[:, None] == targets
    pairs = same & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    anchors, positives = pairs.nonzero(as_tuple=True)
    if len(anchors) == 0 or bool(same.all()):
        return 0 * descriptors.sum()
    positive = distances[anchors, positives]
    to_others = distances[anchors]
    negatives = ~same[anchors]
    farther = negatives & (to_others > positive[:, None])
    closest = to_others.masked_fill(~farther, torch.inf).amin(dim=1)
    farthest = to_others.masked_fill(~negatives, -torch.inf).amax(dim=1)
    negative = torch.where(farther.any(dim=1), closest, farthest)
    return (positive - negative + margin).clamp(min=0).mean()


def absolute_weights(network: nn.Module) -> Tensor:
    """L1 norm of the weights of all layers, without biases and normalization."""
    return torch.stack([p.abs().sum() for p in network.parameters() if p.dim() > 1]).sum()
