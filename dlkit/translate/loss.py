"""What a translator learns: cross-entropy with smoothed labels (Szegedy et al. 2016, section 7).

Shapes: ... places, V tokens in the vocabulary.
"""

from torch import Tensor
from torch.nn import functional as F


def objective(logits: Tensor, target_next: Tensor, pad: int, smoothing: float) -> Tensor:
    """Mean over the real tokens of target_next (...) under logits (..., V), in nats.

    A share `smoothing` of the label is spread evenly over the vocabulary.
    """
    return F.cross_entropy(
        logits.flatten(0, -2), target_next.flatten(), ignore_index=pad, label_smoothing=smoothing
    )
