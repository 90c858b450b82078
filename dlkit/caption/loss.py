"""What a captioner learns.

Shapes: B captions, T places of each, N real tokens in all of them, P places of an image, V tokens
in the vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.caption.model import DecoderOutput

ENTROPY = 0.002  # weight of the entropy of hard attention, as in the authors' own code
KEPT = 0.9  # share of the baseline that a step keeps (Xu et al. 2015, section 4.1)


def objective(
    foretold: DecoderOutput, after: Tensor, real: Tensor, smoothing: float, penalty: float = 0.0
) -> Tensor:
    """Mean cross-entropy with smoothed labels in nats per token, and what attention is to learn.

    `foretold` has the logits (N, V) of the places `real` (B, T) of the tokens `after` (B, T).
    """
    loss = F.cross_entropy(foretold.logits, after[real], label_smoothing=smoothing)
    if penalty and foretold.alphas is not None:
        loss = loss + penalty * doubly_stochastic(foretold.alphas, real)
    return loss


def doubly_stochastic(alphas: Tensor, real: Tensor) -> Tensor:
    """sum over the places of (1 - sum over the words of alpha)^2 (Xu et al. 2015, equation 14).

    The mean over the captions, of alphas (B, T, P); words that are not `real` (B, T) do not count.
    """
    seen = (alphas * real[..., None]).sum(1)
    return ((1 - seen) ** 2).sum(1).mean()


def reinforce(
    foretold: DecoderOutput, after: Tensor, real: Tensor, baseline: Tensor
) -> tuple[Tensor, Tensor]:
    """What hard attention learns by, per token, and the new baseline (Xu et al. 2015, section 4.1).

    The log-probability of the places that were drawn, times how much more probable than the
    baseline the caption was with them, and the entropy of the attention, which is to stay high.
    """
    assert foretold.chosen is not None
    assert foretold.alphas is not None
    logprobs = torch.zeros_like(foretold.chosen)
    logprobs[real] = -F.cross_entropy(foretold.logits.detach(), after[real], reduction="none")
    captions = logprobs.sum(1)
    drawn = ((captions - baseline)[:, None] * foretold.chosen)[real].sum()
    entropy = torch.special.entr(foretold.alphas).sum(-1)[real].sum()
    loss = -(drawn + ENTROPY * entropy) / real.sum()
    return loss, KEPT * baseline + (1 - KEPT) * captions.mean()
