"""Losses of GANs and autoencoders, against formulas and by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.gan_sample.loss import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    kl_divergence,
    reconstruction_loss,
    sparsity_loss,
)


def test_the_optimal_discriminator_is_p_over_p_plus_q() -> None:
    """On four points with a logit for each: D* = p / (p + q) minimizes the loss, which is convex.

    Its value there is log 4 - 2 JSD(p, q) (Goodfellow et al. 2014, equation 4).
    """
    p, q = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.4, 0.3, 0.2, 0.1])
    # Ten draws of each distribution, in its shares.
    real, fake = (torch.arange(4).repeat_interleave((10 * s).round().long()) for s in (p, q))
    best = (p / (p + q)).logit().requires_grad_()
    loss = discriminator_loss("minimax", best[real], best[fake])
    loss.backward()
    assert best.grad is not None
    assert torch.allclose(best.grad, torch.zeros(4), atol=1e-6)
    logits = best.detach()
    for step in torch.eye(4):
        moved = logits + 0.3 * step
        assert discriminator_loss("minimax", moved[real], moved[fake]) > loss
    middle = (p + q) / 2
    jsd = 0.5 * ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum())
    assert float(loss.detach()) == pytest.approx(math.log(4) - 2 * float(jsd), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "of_logit"),
    [
        ("minimax", lambda x: -torch.sigmoid(x)),  # of log(1 - D)
        ("non-saturating", lambda x: torch.sigmoid(x) - 1),  # of -log D
        ("least-squares", lambda x: x - 1),
        ("hinge", lambda x: -torch.ones_like(x)),
        ("wasserstein", lambda x: -torch.ones_like(x)),
    ],
)
def test_gradients_of_the_generators_losses(kind: str, of_logit: Any) -> None:
    logits = torch.tensor([-8.0, -1.0, 0.0, 2.0], requires_grad=True)
    generator_loss(kind, logits).backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, of_logit(logits.detach()) / 4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("minimax", math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))),
        ("non-saturating", math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))),
        ("least-squares", 0.5 * (1.0 + 0.25)),
        ("hinge", 0.0 + 1.5),
        ("wasserstein", 0.5 - 2),
    ],
)
def test_discriminators_losses_by_hand(kind: str, expected: float) -> None:
    loss = discriminator_loss(kind, torch.tensor([2.0]), torch.tensor([0.5]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_the_saturating_loss_saturates_where_the_other_does_not() -> None:
    sure = torch.tensor([-20.0], requires_grad=True)
    (flat,) = torch.autograd.grad(generator_loss("minimax", sure), sure)
    (steep,) = torch.autograd.grad(generator_loss("non-saturating", sure), sure)
    assert abs(float(flat)) < 1e-8
    assert float(steep) == pytest.approx(-1, abs=1e-6)


def test_the_penalty_on_a_linear_critic_by_hand() -> None:
    """A linear critic's gradient is its weight everywhere: the penalty is (|w| - 1)^2."""
    weight = torch.tensor([2.0, 3.0, 6.0, 0.0], requires_grad=True)  # of length 7

    def critic(images: Tensor) -> Tensor:
        return images.flatten(1) @ weight + 5

    real, fake = torch.randn(5, 1, 2, 2), torch.randn(5, 1, 2, 2)
    penalty = gradient_penalty(critic, real, fake)
    assert float(penalty.detach()) == pytest.approx(36)
    penalty.backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, 2 * 6 * weight.detach() / 7)


def test_the_penalty_is_taken_between_real_and_fake() -> None:
    """On a critic x^2 / 2 in one dimension, whose gradient is the place x itself."""

    def critic(images: Tensor) -> Tensor:
        return 0.5 * images.flatten(1).square().sum(dim=1)

    torch.manual_seed(0)
    real, fake = torch.full((4000, 1, 1, 1), 3.0), torch.full((4000, 1, 1, 1), 1.0)
    # x uniform from 1 to 3: E (x - 1)^2 = 4 / 3.
    penalty = gradient_penalty(critic, real, fake).detach()
    assert float(penalty) == pytest.approx(4 / 3, rel=0.05)


def test_kl_divergence_is_torchs() -> None:
    mean, log_variance = torch.randn(3, 5), torch.randn(3, 5)
    gaussian = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(gaussian, normal).sum(dim=1)
    assert torch.allclose(kl_divergence(mean, log_variance), expected, atol=1e-5)
    assert float(kl_divergence(torch.zeros(1, 5), torch.zeros(1, 5))) == 0


def test_reconstruction_losses_by_hand() -> None:
    images, halves = torch.tensor([[[[1.0, -0.5]]]]), torch.tensor([[[[0.3, 2.0]]]])
    made = halves.tanh()
    errors = (made - images)[0, 0, 0].tolist()
    assert float(reconstruction_loss("mse", images, halves)) == pytest.approx(
        0.5 * (errors[0] ** 2 + errors[1] ** 2)
    )
    assert float(reconstruction_loss("l1", images, halves)) == pytest.approx(
        abs(errors[0]) + abs(errors[1])
    )
    shares = 0.5 * (made + 1)
    bce = F.binary_cross_entropy(shares, 0.5 * (images + 1), reduction="sum")
    assert float(reconstruction_loss("bce", images, halves)) == pytest.approx(float(bce), rel=1e-5)


def test_sparsity_is_the_divergence_of_mean_activities() -> None:
    codes = torch.tensor([[0.2, 0.05], [0.4, 0.05]])  # means 0.3 and 0.05
    expected = 0.05 * math.log(0.05 / 0.3) + 0.95 * math.log(0.95 / 0.7)
    assert float(sparsity_loss(codes, 0.05)) == pytest.approx(expected, abs=1e-6)
