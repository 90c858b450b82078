"""Losses of GANs and autoencoders.

Shapes: B images, C channels, S x S pixels, Z numbers of a code. Logits and scores are (B,), or of
patches (B, 1, h, w).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.gan_sample.config import ResolvedConfig


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The loss of a discriminator, from its logits of real and of generated images.

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
    """The loss of a generator, from the logits of its images.

    minimax is log(1 - D), whose gradient vanishes (saturates) where the discriminator is certain;
    non-saturating is -log D (Goodfellow et al. 2014, section 3).
    """
    if kind == "minimax":
        return -F.softplus(fake).mean()
    if kind == "non-saturating":
        return F.softplus(-fake).mean()
    if kind == "least-squares":
        return 0.5 * (fake - 1).square().mean()
    return -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 at random points between real and fake images.

    Gulrajani et al. 2017, algorithm 1, without the factor lambda.
    """
    shares = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(fake.float(), real.float(), shares).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence (B,) in nats of diagonal Gaussians (B, Z) from the standard normal.

    Kingma and Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def reconstruction_loss(kind: str, images: Tensor, halves: Tensor) -> Tensor:
    """The reconstruction loss (B,) of images (B, C, S, S) from -1 to 1, summed over pixels.

    `halves` is the reconstruction before tanh, which is half the logits of its pixels.

    mse: half the squared error, the negative log-likelihood of unit Gaussians. bce: cross-entropy
    in nats of Bernoulli pixels from 0 to 1 (Kingma and Welling 2014, appendix C.1).
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
    """KL divergence between `activity` and the mean of each unit, summed over units.

    Codes (B, Z) are between 0 and 1 (Ng 2011, CS294A, section 3).
    """
    mean = codes.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    share = torch.as_tensor(activity, dtype=mean.dtype, device=mean.device)
    first = share * (share / mean).log()
    return (first + (1 - share) * ((1 - share) / (1 - mean)).log()).sum()


def autoencoder_losses(
    config: ResolvedConfig, images: Tensor, halves: Tensor, codes: Tensor
) -> dict[str, Tensor]:
    """The loss terms of an autoencoder, means over the batch."""
    terms = {"reconstruction": reconstruction_loss(config.reconstruction, images, halves).mean()}
    if config.sparsity:
        terms["sparsity"] = config.sparsity * sparsity_loss(codes, config.activity)
    return terms


def vae_losses(
    config: ResolvedConfig, images: Tensor, halves: Tensor, mean: Tensor, log_variance: Tensor
) -> dict[str, Tensor]:
    """The loss terms of a variational autoencoder, means over the batch."""
    reconstruction = reconstruction_loss(config.reconstruction, images, halves).mean()
    kl = config.beta * kl_divergence(mean, log_variance).mean()
    return {"reconstruction": reconstruction, "kl": kl}
