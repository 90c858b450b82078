"""What the models are trained to minimize.

Shapes: B images, C channels, S x S pixels, Z numbers of a code. Logits and scores are (B,), or of
patches (B, 1, h, w).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What a discriminator minimizes, from its logits of real and of generated images.

    minimax and non-saturating: Goodfellow et al. 2014, equation 1, whose optimum is the probability
    p / (p + q) of being real. least-squares: Mao et al. 2017, equation 9. hinge: Miyato et al.
    2018, equation 16. wasserstein: Arjovsky et al. 2017, equation 2.
    """
    if kind == "least-squares":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "wasserstein":
        return fake.mean() - real.mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What the generator minimizes, from the logits of its images.

    minimax is log(1 - D), whose gradient vanishes where the discriminator is sure (it saturates);
    non-saturating is -log D (section 3 of the first paper).
    """
    if kind == "minimax":
        return -F.softplus(fake).mean()
    if kind == "non-saturating":
        return F.softplus(-fake).mean()
    if kind == "least-squares":
        return 0.5 * (fake - 1).square().mean()
    return -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 on random points of the lines between real and fake images.

    Gulrajani et al. 2017, algorithm 1; without their factor lambda.
    """
    shares = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(fake.float(), real.float(), shares).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence (B,) in nats of diagonal Gaussians (B, Z) from the standard normal.

    Kingma and Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def reconstruction_loss(kind: str, images: Tensor, halves: Tensor) -> Tensor:
    """The distance (B,) of images (B, C, S, S) from -1 to 1, summed over pixels.

    The reconstruction comes as half the logits of its pixels, before tanh.

    mse: half the squared error, a Gaussian's log-likelihood of deviation 1. bce: cross-entropy in
    nats of values from 0 to 1, as of Bernoulli pixels (Kingma and Welling 2014, appendix C.1).
    """
    if kind == "mse":
        error = 0.5 * (halves.tanh() - images).square()
    elif kind == "l1":
        error = (halves.tanh() - images).abs()
    else:  # (1 + tanh(x)) / 2 is the sigmoid of 2 x
        targets = 0.5 * (images + 1)
        error = F.binary_cross_entropy_with_logits(2 * halves, targets, reduction="none")
    return error.flatten(1).sum(dim=1)


def sparsity_loss(codes: Tensor, activity: float) -> Tensor:
    """KL divergence of each number's mean over the batch from `activity`, summed over numbers.

    Codes (B, Z) lie between 0 and 1 (Ng 2011, CS294A, section 3).
    """
    mean = codes.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    share = torch.as_tensor(activity, dtype=mean.dtype, device=mean.device)
    first = share * (share / mean).log()
    return (first + (1 - share) * ((1 - share) / (1 - mean)).log()).sum()
