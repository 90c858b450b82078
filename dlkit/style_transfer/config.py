"""Settings of `dlkit style-transfer`. Loads no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from dlkit.core.config import (
    SkipSettings,
    TrainConfig,
    argument,
    option,
    refuse_unused,
    with_defaults,
)

DEFAULT_MODEL = "paintings"  # a bundled painter, for `apply`
DEFAULT_FEATURES = "natural"  # a bundled feature network

Arch = Literal["fast", "adain"]
# The architectures of each option that not all of them have.
OWN: dict[str, tuple[str, ...]] = dict.fromkeys(("style_size", "width"), ("fast",))
DEFAULTS: dict[str, dict[str, Any]] = {
    "fast": {"content_layer": "relu3_1", "style_weight": 15.0, "tv_weight": 50.0},
    "adain": {"content_layer": "relu4_1", "style_weight": 30.0, "tv_weight": 20.0},
}


@dataclass(kw_only=True)
class StyleTrainConfig(TrainConfig, SkipSettings):
    """Settings of a training run; a None default depends on the architecture (`by_arch`)."""

    data: list[str] = argument(  # type: ignore[assignment]
        "Style images: files, folders, globs. fast learns one style from each, adain learns to"
        " paint in any style."
    )
    images: list[str] = option(
        (),
        "Photographs to train on: a folder, file or glob; may be given more than once.",
        group="Data",
    )
    arch: Arch = option(
        "fast",
        "fast: a network for these styles; adain: a network for any style.",
        group="Architecture",
    )
    features: str = option(
        DEFAULT_FEATURES,
        "Feature network of the losses and of adain's encoder: a bundled one's name, vgg19, vgg16"
        " or a file.",
        group="Architecture",
    )
    image_size: int = option(128, "Side of the training crops, in pixels.", min=32, group="Data")
    style_size: int = option(
        256,
        "fast: longest side of the style images, which determines the size of strokes.",
        min=32,
        group="Data",
    )
    width: int = option(
        24, "fast: channels of the first layer (32 in the paper).", min=4, group="Architecture"
    )
    content_layer: str | None = option(
        None,
        "Layer of the content loss and last layer of adain's encoder (fast: relu3_1, adain:"
        " relu4_1). Earlier layers keep more of the photograph and train faster.",
        group="Loss",
    )
    content_weight: float = option(1.0, "Weight of the content loss.", min=0, group="Loss")
    style_weight: float | None = option(
        None, "Weight of the style loss (fast: 15, adain: 30).", min=0, group="Loss"
    )
    tv_weight: float | None = option(
        None, "Weight of the total variation loss (fast: 50, adain: 20).", min=0, group="Loss"
    )
    val_share: float = option(
        0.02, "Share of the photographs to validate on.", min=0, max=0.9, group="Validation"
    )
    every: int = option(1, "Write example paintings every N epochs.", min=1, group="Validation")
    steps_per_epoch: int = option(
        0, "Steps of an epoch; 0: one pass over the photographs.", min=0, group="Optimization"
    )
    epochs: int = option(20, "Passes over the photographs, or epochs of --steps-per-epoch.", min=1)
    batch_size: int = option(8, "Batch size over all processes.", min=1)
    weight_decay: float = option(0.0, "Weight decay; biases and norms have none.", min=0)
    warmup: float = option(0.1, "Epochs over which the learning rate rises from zero.", min=0)


class ResolvedConfig(StyleTrainConfig):
    """Settings with a value for each one that the architecture uses; those it lacks may be None."""

    content_layer: str
    style_weight: float
    tv_weight: float


def by_arch(config: StyleTrainConfig) -> ResolvedConfig:
    """The settings with the architecture's defaults in place of None.

    Raises DlkitError for options that the architecture does not have.
    """
    refuse_unused(config, OWN)
    return with_defaults(ResolvedConfig(**vars(config)), DEFAULTS[config.arch])
