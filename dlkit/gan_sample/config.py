"""Settings of `dlkit gan-sample`. Loads no torch."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from dlkit.core.config import (
    Optimizer,
    Schedule,
    TrainConfig,
    non_defaults,
    option,
    option_name,
    refuse_unused,
)
from dlkit.core.errors import DlkitError

DEFAULT_MODEL = "digits"

Arch = Literal[
    "residual", "gan", "dcgan", "wgan", "wgan-gp", "cgan", "cyclegan", "autoencoder", "vae"
]  # fmt: skip
Loss = Literal["minimax", "non-saturating", "least-squares", "hinge"]


@dataclass(kw_only=True)
class GanTrainConfig(TrainConfig):
    """What a model is trained on, and how.

    A setting whose default is None has one for each architecture: `by_arch` fills it in.
    """

    arch: Arch = option("residual", "Architecture to train.")
    network: Literal["dense", "convolutional", "residual"] | None = option(
        None, "cgan, autoencoder, vae: layers of the network (convolutional)."
    )
    image_size: int | None = option(
        None, "Pixels a side; default: what fits the pictures, at most 64.", min=8
    )
    color: Literal["auto", "gray", "rgb"] = option(
        "auto", "auto: gray where all pictures are gray."
    )
    latent: int | None = option(
        None, "Numbers of a latent vector (100; residual 128; autoencoder, vae 32).", min=1
    )
    width: int | None = option(
        None, "Convolutions: maps next to the image (64; residual 16; autoencoder, vae 32).", min=4
    )
    hidden: int | None = option(
        None, "Dense networks: units of a hidden layer (1200; autoencoder, vae 512).", min=5
    )
    kernel: int | None = option(
        None, "dcgan and its kin: pixels of a kernel's side (4; the paper's is 5).", min=2, max=7
    )
    blocks: int | None = option(None, "cyclegan: residual blocks (6; from 256 pixels on 9).", min=1)

    epochs: int = option(100, "Passes over the pictures, or stretches of --steps-per-epoch.", min=1)
    steps_per_epoch: int = option(
        0, "Steps after which an epoch ends, with an evaluation; 0: one pass, 100 at least.", min=0
    )
    batch_size: int = option(
        None, "Pictures of one step, over all processes (64; cyclegan 1).", min=1
    )
    optimizer: Optimizer = option(None, "Of both networks (adam; wgan rmsprop).")
    lr: float = option(None, "Learning rate (2e-4; wgan 5e-5; autoencoder, vae 1e-3).", min=0)
    beta1: float = option(
        None,
        "adam, adamw: decay of the mean of gradients (0.5; residual, wgan-gp 0).",
        min=0,
        max=1,
    )
    schedule: Schedule = option("constant", "How the learning rate changes.")
    warmup: float = option(0.0, "Epochs over which the learning rate rises from zero.", min=0)
    weight_decay: float = option(0.0, "Weight decay; biases and norms have none.", min=0)
    clip_grad: float = option(0.0, "Largest norm of the gradient; 0 for no limit.", min=0)
    ema: float = option(
        None, "Decay of the moving average of the weights (residual 0.999); 0: none.", min=0, max=1
    )

    loss: Loss = option(
        None,
        "Of generator and discriminator (non-saturating; residual hinge; cyclegan least-squares);"
        " minimax is the saturating one.",
    )
    d_steps: int = option(
        None, "Steps of the discriminator to one of the generator (1; wgan, wgan-gp 5).", min=1
    )
    spectral_norm: bool | None = option(
        None, "Divide the discriminator's matrices by their largest singular value (residual)."
    )
    clip_weights: float | None = option(None, "wgan: largest weight of the critic (0.01).", min=0)
    gradient_penalty: float | None = option(
        None, "wgan-gp: weight of the penalty on the critic's gradient (10).", min=0
    )
    augment: str = option(
        None,
        "Differentiable augmentation of real and made pictures: some of"
        " color,translation,cutout, or none (residual: all three).",
    )
    flip: float | None = option(
        None, "Share of pictures mirrored left to right (color: 0.5, gray: 0).", min=0, max=1
    )

    cycle: float = option(10.0, "cyclegan: weight of the way there and back.", min=0)
    identity: float = option(
        0.5, "cyclegan: weight, as a share of --cycle, of leaving pictures of the target.", min=0
    )

    beta: float = option(1.0, "vae: weight of the KL divergence.", min=0)
    reconstruction: Literal["mse", "l1", "bce"] = option(
        None, "autoencoder, vae: how a reconstruction is compared (mse; vae bce)."
    )
    noise: float = option(
        0.0, "autoencoder: deviation of the noise that a denoising one learns to remove.", min=0
    )
    masking: float = option(
        0.0, "autoencoder: share of pixels, made gray, that it learns to fill in.", min=0, max=1
    )
    sparsity: float = option(
        0.0, "autoencoder: weight of the sparse codes' KL divergence; 0: codes are free.", min=0
    )
    activity: float = option(
        0.05, "autoencoder: mean of each number of a sparse code.", min=0.001, max=0.999
    )
    val_share: float = option(
        0.1, "autoencoder, vae: share of the pictures held out, to validate on.", min=0, max=0.9
    )

    score: Literal["fid", "kid"] = option("fid", "What best and --patience go by.")
    eval_samples: int = option(
        2000, "Pictures made for it after each epoch, and real ones at most.", min=20
    )
    features: str = option(
        "auto",
        "Classifier of `dlkit classify` in whose features pictures are compared; auto: digits for"
        " gray pictures, cifar10 up to 32 pixels, else caltech101.",
    )


ADVERSARIAL = ("residual", "gan", "dcgan", "wgan", "wgan-gp", "cgan")
CHOOSING = ("cgan", "autoencoder", "vae")  # their --network
JUDGED = (*ADVERSARIAL, "vae", "cyclegan")
# Options that not all architectures have.
OWN: dict[str, tuple[str, ...]] = {
    "accumulate": ("autoencoder", "vae"),  # the others have two networks that take turns
    "network": CHOOSING,
    "latent": (*ADVERSARIAL, "autoencoder", "vae"),
    "width": ("residual", "dcgan", "wgan", "wgan-gp", "cyclegan", *CHOOSING),
    "hidden": ("gan", *CHOOSING),
    "kernel": ("dcgan", "wgan", "wgan-gp", *CHOOSING),
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
    "score": JUDGED,
    "eval_samples": JUDGED,
    "features": JUDGED,
}

GAN: dict[str, Any] = {
    "batch_size": 64, "optimizer": "adam", "lr": 2e-4, "beta1": 0.5, "ema": 0.0,
    "loss": "non-saturating", "d_steps": 1, "spectral_norm": False, "augment": "none",
}  # fmt: skip
CODING: dict[str, Any] = {
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
    "autoencoder": {**CODING, "network": "convolutional", "reconstruction": "mse"},
    "vae": {**CODING, "network": "convolutional", "reconstruction": "bce"},
}  # fmt: skip


def by_arch(config: GanTrainConfig) -> GanTrainConfig:
    """The settings, with the architecture's own for those left at None.

    Raises DlkitError for an option that was given and would do nothing.
    """
    refuse_unused(config, OWN)
    changed = set(non_defaults(config))
    own = DEFAULTS[config.arch]
    config = replace(config, **{k: v for k, v in own.items() if getattr(config, k) is None})
    if config.network is not None:
        kind = "a dense network" if config.network == "dense" else f"{config.network} networks"
        unused = {"dense": {"width", "kernel"}, "convolutional": {"hidden"}}
        for name in sorted(changed & unused.get(config.network, {"hidden", "kernel"})):
            raise DlkitError(f"{option_name(name)} has no use in {kind}")
        if config.network == "residual" and config.arch != "cgan":
            raise DlkitError(f"--network residual is for cgan, not {config.arch}")
    if "beta1" in changed and config.optimizer not in {"adam", "adamw"}:
        raise DlkitError(f"--beta1 is for adam and adamw, not for {config.optimizer}")
    if "activity" in changed and not config.sparsity:
        raise DlkitError("--activity goes with --sparsity")
    if config.arch == "cyclegan" and config.loss not in {"least-squares", "non-saturating"}:
        raise DlkitError("--loss of cyclegan is least-squares or non-saturating")
    return config
