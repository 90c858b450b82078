"""Settings of `dlkit gan-sample`. Loads no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from dlkit.core.config import (
    Optimizer,
    Schedule,
    SkipSettings,
    TrainConfig,
    non_defaults,
    option,
    option_name,
    refuse_unused,
    with_defaults,
)
from dlkit.core.errors import DlkitError

DEFAULT_MODEL = "digits"

Arch = Literal[
    "residual", "gan", "dcgan", "wgan", "wgan-gp", "cgan", "cyclegan", "autoencoder", "vae"
]  # fmt: skip
Loss = Literal["minimax", "non-saturating", "least-squares", "hinge"]


@dataclass(kw_only=True)
class GanTrainConfig(TrainConfig, SkipSettings):
    """Settings of a training run; a None default depends on the architecture (`by_arch`)."""

    arch: Arch = option("residual", "Architecture to train.", group="Architecture")
    network: Literal["dense", "convolutional", "residual"] | None = option(
        None, "cgan, autoencoder, vae: type of layers (convolutional).", group="Architecture"
    )
    image_size: int | None = option(
        None, "Side in pixels; default: chosen from the pictures, at most 64.", min=8, group="Data"
    )
    color: Literal["auto", "gray", "rgb"] = option(
        "auto", "auto: gray if all pictures are gray, otherwise rgb.", group="Data"
    )
    latent: int | None = option(
        None,
        "Latent dimension (100; residual 128; autoencoder, vae 32).",
        min=1,
        group="Architecture",
    )
    width: int | None = option(
        None,
        "Channels at the image's resolution (64; residual 16; autoencoder, vae 32).",
        min=4,
        group="Architecture",
    )
    hidden: int | None = option(
        None,
        "Hidden units of dense networks (1200; autoencoder, vae 512).",
        min=5,
        group="Architecture",
    )
    kernel: int | None = option(
        None,
        "Kernel size of strided convolutions (4; the DCGAN paper: 5).",
        min=2,
        max=7,
        group="Architecture",
    )
    blocks: int | None = option(
        None, "cyclegan: residual blocks (6; 9 at 256 pixels or more).", min=1, group="Architecture"
    )

    epochs: int = option(100, "Passes over the pictures, or epochs of --steps-per-epoch.", min=1)
    steps_per_epoch: int = option(
        0,
        "Steps of an epoch, which an evaluation ends; 0: one pass, at least 100.",
        min=0,
        group="Optimization",
    )
    batch_size: int = option(None, "Batch size over all processes (64; cyclegan 1).", min=1)
    optimizer: Optimizer = option(None, "Optimizer of both networks (adam; wgan rmsprop).")
    lr: float = option(None, "Learning rate (2e-4; wgan 5e-5; autoencoder, vae 1e-3).", min=0)
    beta1: float | None = option(
        None, "adam, adamw: beta1 (0.5; residual, wgan-gp 0).", min=0, max=1, group="Optimization"
    )
    schedule: Schedule = option("constant", "How the learning rate changes.")
    warmup: float = option(0.0, "Epochs over which the learning rate rises from zero.", min=0)
    weight_decay: float = option(0.0, "Weight decay; biases and norms have none.", min=0)
    clip_grad: float = option(0.0, "Largest norm of the gradient; 0 for no limit.", min=0)
    ema: float = option(
        None,
        "Decay of the moving average of the weights (residual 0.999); 0: no average.",
        min=0,
        max=1,
    )

    loss: Loss | None = option(
        None,
        "Adversarial loss (non-saturating; residual hinge; cyclegan least-squares); minimax is the"
        " saturating one.",
        group="Loss",
    )
    d_steps: int | None = option(
        None,
        "Discriminator steps per generator step (1; wgan, wgan-gp 5).",
        min=1,
        group="Optimization",
    )
    spectral_norm: bool | None = option(
        None, "Spectral normalization of the discriminator (residual).", group="Architecture"
    )
    clip_weights: float | None = option(
        None, "wgan: clip the critic's weights to this range (0.01).", min=0, group="Loss"
    )
    gradient_penalty: float | None = option(
        None, "wgan-gp: weight of the gradient penalty (10).", min=0, group="Loss"
    )
    augment: str | None = option(
        None,
        "Differentiable augmentation of real and generated pictures: some of"
        " color,translation,cutout, or none (residual: all three).",
        group="Augmentation",
    )
    flip: float | None = option(
        None,
        "Probability of a horizontal flip (color: 0.5, gray: 0).",
        min=0,
        max=1,
        group="Augmentation",
    )

    cycle: float = option(
        10.0, "cyclegan: weight of the cycle-consistency loss.", min=0, group="Loss"
    )
    identity: float = option(
        0.5, "cyclegan: weight of the identity loss, relative to --cycle.", min=0, group="Loss"
    )

    beta: float = option(1.0, "vae: weight of the KL divergence.", min=0, group="Loss")
    reconstruction: Literal["mse", "l1", "bce"] | None = option(
        None, "autoencoder, vae: reconstruction loss (mse; vae bce).", group="Loss"
    )
    noise: float = option(
        0.0,
        "autoencoder: standard deviation of the noise added to the input (denoising).",
        min=0,
        group="Augmentation",
    )
    masking: float = option(
        0.0,
        "autoencoder: share of input pixels set to gray (denoising).",
        min=0,
        max=1,
        group="Augmentation",
    )
    sparsity: float = option(
        0.0,
        "autoencoder: weight of the sparsity penalty on the codes; 0: none.",
        min=0,
        group="Loss",
    )
    activity: float = option(
        0.05,
        "autoencoder: target mean activation of a sparse code.",
        min=0.001,
        max=0.999,
        group="Loss",
    )
    val_share: float = option(
        0.1,
        "autoencoder, vae: share of the pictures to validate on.",
        min=0,
        max=0.9,
        group="Validation",
    )

    best_metric: Literal["fid", "kid"] = option(
        "fid", "Metric of the best checkpoint and --patience.", group="Validation"
    )
    eval_samples: int = option(
        2000,
        "Pictures to generate after each epoch for the metrics, and the most real ones.",
        min=20,
        group="Validation",
    )
    features: str = option(
        "auto",
        "Classifier of `dlkit classify` whose features are compared; auto: digits for gray"
        " pictures, cifar10 up to 32 pixels, otherwise caltech101.",
        group="Validation",
    )


ADVERSARIAL = ("residual", "gan", "dcgan", "wgan", "wgan-gp", "cgan")
WITH_NETWORK = ("cgan", "autoencoder", "vae")
WITH_FID = (*ADVERSARIAL, "vae", "cyclegan")
# The architectures of each option that not all of them have.
OWN: dict[str, tuple[str, ...]] = {
    "accumulate": ("autoencoder", "vae"),  # the others alternate between two networks
    "network": WITH_NETWORK,
    "latent": (*ADVERSARIAL, "autoencoder", "vae"),
    "width": ("residual", "dcgan", "wgan", "wgan-gp", "cyclegan", *WITH_NETWORK),
    "hidden": ("gan", *WITH_NETWORK),
    "kernel": ("dcgan", "wgan", "wgan-gp", *WITH_NETWORK),
    "blocks": ("cyclegan",),
    "loss": ("residual", "gan", "dcgan", "cgan", "cyclegan"),
    "d_steps": ADVERSARIAL,
    "spectral_norm": ("residual", "gan", "dcgan", "wgan", "cgan"),
    "clip_weights": ("wgan",),
    "gradient_penalty": ("wgan-gp",),
    "augment": ADVERSARIAL,
    "cycle": ("cyclegan",),
    "identity": ("cyclegan",),
    "beta": ("vae",),
    "reconstruction": ("autoencoder", "vae"),
    "noise": ("autoencoder",),
    "masking": ("autoencoder",),
    "sparsity": ("autoencoder",),
    "activity": ("autoencoder",),
    "val_share": ("autoencoder", "vae"),
    "best_metric": WITH_FID,
    "eval_samples": WITH_FID,
    "features": WITH_FID,
}

GAN: dict[str, Any] = {
    "batch_size": 64, "optimizer": "adam", "lr": 2e-4, "beta1": 0.5, "ema": 0.0,
    "loss": "non-saturating", "d_steps": 1, "spectral_norm": False, "augment": "none",
}  # fmt: skip
AUTOENCODER: dict[str, Any] = {
    "batch_size": 64, "optimizer": "adam", "lr": 1e-3, "beta1": 0.9, "ema": 0.0,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "residual": {
        **GAN, "beta1": 0.0, "ema": 0.999, "loss": "hinge", "spectral_norm": True,
        "augment": "color,translation,cutout",
    },
    "gan": GAN,
    "dcgan": GAN,
    "wgan": {
        **GAN, "optimizer": "rmsprop", "lr": 5e-5, "loss": "wasserstein", "d_steps": 5,
        "clip_weights": 0.01,
    },
    "wgan-gp": {
        **GAN, "lr": 1e-4, "beta1": 0.0, "loss": "wasserstein", "d_steps": 5,
        "gradient_penalty": 10.0, "spectral_norm": None,
    },
    "cgan": {**GAN, "network": "convolutional"},
    "cyclegan": {**GAN, "batch_size": 1, "loss": "least-squares", "augment": None},
    "autoencoder": {**AUTOENCODER, "network": "convolutional", "reconstruction": "mse"},
    "vae": {**AUTOENCODER, "network": "convolutional", "reconstruction": "bce"},
}  # fmt: skip


class ResolvedConfig(GanTrainConfig):
    """Settings with a value for each one that the architecture uses; those it lacks may be None."""

    beta1: float
    loss: Loss
    d_steps: int
    augment: str
    reconstruction: Literal["mse", "l1", "bce"]


def by_arch(config: GanTrainConfig) -> ResolvedConfig:
    """The settings with the architecture's defaults in place of None.

    Raises DlkitError for an option that would have no effect.
    """
    refuse_unused(config, OWN)
    changed = set(non_defaults(config))
    resolved = with_defaults(ResolvedConfig(**vars(config)), DEFAULTS[config.arch])
    if resolved.network is not None:
        kind = "a dense network" if resolved.network == "dense" else f"{resolved.network} networks"
        unused = {"dense": {"width", "kernel"}, "convolutional": {"hidden"}}
        for name in sorted(changed & unused.get(resolved.network, {"hidden", "kernel"})):
            raise DlkitError(f"{option_name(name)} has no effect in {kind}; remove it")
        if resolved.network == "residual" and resolved.arch != "cgan":
            raise DlkitError(f"--network residual is for cgan, not {resolved.arch}; choose another")
    if "beta1" in changed and resolved.optimizer not in {"adam", "adamw"}:
        raise DlkitError(f"--beta1 is for adam and adamw, not {resolved.optimizer}; remove it")
    if "activity" in changed and not resolved.sparsity:
        raise DlkitError("--activity has no effect without --sparsity; give both")
    if resolved.arch == "cyclegan" and resolved.loss not in {"least-squares", "non-saturating"}:
        raise DlkitError(
            f"--loss {resolved.loss}: not for cyclegan; choose from least-squares, non-saturating"
        )
    return resolved
