"""The losses of captioners, by their formulas."""

import torch
from torch import nn

from dlkit.caption.loss import ENTROPY_WEIGHT, caption_loss, doubly_stochastic, reinforce
from dlkit.caption.models.captioner import DecoderOutput
from tests.caption.helpers import PAD, close


def test_the_loss_by_its_formulas() -> None:
    """Smoothed cross-entropy, and (1 - sum of alpha)^2 without what is padding."""
    logits, after = torch.randn(2, 3, 5), torch.tensor([[3, 4, 1], [2, 0, 0]])
    real = after != PAD
    alphas = torch.rand(2, 3, 4).softmax(-1)
    logprobs = logits.log_softmax(-1)
    smoothed = [
        0.9 * logprobs[row, t, after[row, t]] + 0.1 * logprobs[row, t].mean()
        for row, t in ((0, 0), (0, 1), (0, 2), (1, 0))
    ]
    stochastic = ((1 - alphas[0].sum(0)) ** 2).sum() + ((1 - alphas[1, 0]) ** 2).sum()
    close(doubly_stochastic(alphas, real), stochastic / 2)
    loss = caption_loss(DecoderOutput(logits[real], alphas), after, real, 0.1, 0.5)
    close(loss, -torch.stack(smoothed).mean() + 0.25 * stochastic)
    close(
        caption_loss(DecoderOutput(logits[real]), after, real, 0.1, 0.5),
        -torch.stack(smoothed).mean(),
    )


def test_reinforce_by_its_formula() -> None:
    """Xu et al. 2015, section 4.1: the gradient of the drawn places' log-probability is scaled by
    what the caption's exceeds the baseline, which moves a tenth of the way.
    """
    logits, after = torch.randn(2, 3, 5), torch.tensor([[3, 4, 1], [2, 0, 0]])
    real = after != PAD
    alphas = torch.rand(2, 3, 4).softmax(-1)
    chosen = alphas[..., 1].log().clone().requires_grad_()
    loss, baseline = reinforce(
        DecoderOutput(logits[real], alphas, chosen), after, real, torch.tensor(-2.0)
    )
    logprobs = logits.log_softmax(-1)
    captions = torch.stack([logprobs[0, [0, 1, 2], [3, 4, 1]].sum(), logprobs[1, 0, 2]])
    close(baseline, 0.9 * torch.tensor(-2.0) + 0.1 * captions.mean())
    entropy = -(alphas * alphas.log()).sum(-1)[real].sum()
    drawn = ((captions + 2) * torch.stack([chosen[0].sum(), chosen[1, 0]])).sum()
    close(loss, -(drawn + ENTROPY_WEIGHT * entropy) / 4)
    (gradient,) = torch.autograd.grad(loss, chosen)
    close(gradient, -(captions + 2)[:, None].expand(2, 3) * real / 4)


def test_reinforce_learns_where_to_look() -> None:
    """Only one place tells the word: it comes to be looked at, though drawing has no gradient."""
    torch.manual_seed(1)
    score = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([score], lr=0.5)
    baseline = torch.zeros(())
    told = torch.tensor([[5.0, 0.0], [0.0, 5.0], [0.0, 5.0], [0.0, 5.0]])  # by what is seen
    after = torch.zeros(32, 1, dtype=torch.long)
    real = torch.ones_like(after, dtype=torch.bool)
    for _ in range(100):
        alphas = score.softmax(0).expand(32, 1, 4)
        place = torch.multinomial(alphas[:, 0].detach(), 1)
        chosen = alphas[:, 0].gather(1, place).log()
        output = DecoderOutput(told[place[:, 0]], alphas, chosen)
        loss, baseline = reinforce(output, after, real, baseline)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert score.softmax(0)[0] > 0.9
