"""Losses of captioners.

Shapes: B captions of T places, N real tokens in all of them, P locations of an image, V tokens in
the vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.caption.models.captioner import DecoderOutput

ENTROPY_WEIGHT = 0.002  # of hard attention's entropy, as in the authors' own code
BASELINE_DECAY = 0.9  # of the moving average (Xu et al. 2015, section 4.1)


def caption_loss(
    output: DecoderOutput, labels: Tensor, real: Tensor, smoothing: float, penalty: float = 0.0
) -> Tensor:
    """Mean cross-entropy with smoothed labels, in nats per token, and the attention penalty.

    `output` has the logits (N, V) where `real` (B, T) is true, of the tokens `labels` (B, T).
    """
    loss = F.cross_entropy(output.logits, labels[real], label_smoothing=smoothing)
    if penalty and output.alphas is not None:
        loss = loss + penalty * doubly_stochastic(output.alphas, real)
    return loss


def doubly_stochastic(alphas: Tensor, real: Tensor) -> Tensor:
    """sum over the locations of (1 - sum over the words of alpha)^2, mean over the captions.

    Xu et al. 2015, equation 14. alphas (B, T, P); words where `real` (B, T) is false do not count.
    """
    attended = (alphas * real[..., None]).sum(1)
    return ((1 - attended) ** 2).sum(1).mean()


def reinforce(
    output: DecoderOutput, labels: Tensor, real: Tensor, baseline: Tensor
) -> tuple[Tensor, Tensor]:
    """REINFORCE's loss of hard attention, per token, and the new baseline.

    Xu et al. 2015, section 4.1: the log-probability of the sampled locations, times the difference
    between the caption's log-probability and the baseline, and an entropy bonus.
    """
    assert output.chosen is not None
    assert output.alphas is not None
    logprobs = torch.zeros_like(output.chosen)
    logprobs[real] = -F.cross_entropy(output.logits.detach(), labels[real], reduction="none")
    captions = logprobs.sum(1)
    reward = ((captions - baseline)[:, None] * output.chosen)[real].sum()
    entropy = torch.special.entr(output.alphas).sum(-1)[real].sum()
    loss = -(reward + ENTROPY_WEIGHT * entropy) / real.sum()
    return loss, BASELINE_DECAY * baseline + (1 - BASELINE_DECAY) * captions.mean()
