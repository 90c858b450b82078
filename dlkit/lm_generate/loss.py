"""The loss of language models: cross-entropy of the tokens to predict."""

from torch import Tensor
from torch.nn import functional as F


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of targets (B, T) under logits (B, T, V)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
