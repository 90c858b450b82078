"""The loss of translators, by its formula."""

import torch

from dlkit.translate.loss import smoothed_cross_entropy
from tests.translate.helpers import PAD, V, close


def test_the_loss_by_its_formula() -> None:
    logits, labels = torch.randn(2, 3, V), torch.tensor([[4, 5, PAD], [6, PAD, PAD]])
    logprobs = logits.log_softmax(-1)
    for smoothing in (0.0, 0.1):
        expected = torch.zeros(())
        for row, place in ((0, 0), (0, 1), (1, 0)):
            one = logprobs[row, place]
            expected -= (1 - smoothing) * one[labels[row, place]] + smoothing * one.mean()
        close(smoothed_cross_entropy(logits, labels, PAD, smoothing), expected / 3)
        real = labels != PAD
        close(smoothed_cross_entropy(logits[real], labels[real], PAD, smoothing), expected / 3)
