"""Cross-entropy with label smoothing (Szegedy et al. 2016, section 7).

Shapes: ... places, V tokens in the vocabulary.
"""

from torch import Tensor
from torch.nn import functional as F


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, pad: int, smoothing: float) -> Tensor:
    """Mean over the labels (...) that are not padding, under logits (..., V), in nats.

    A share `smoothing` of each label is spread evenly over the vocabulary.
    """
    return F.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=pad, label_smoothing=smoothing
    )
