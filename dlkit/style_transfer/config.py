"""Settings of `dlkit style-transfer`. Loads no torch."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from dlkit.core.config import TrainConfig, argument, option, refuse_unused

DEFAULT_MODEL = "paintings"  # the bundled painter, of `apply`
DEFAULT_FEATURES = "natural"  # the bundled feature network

Arch = Literal["fast", "adain"]
# The architectures that have an option which is not for all.
OWN: dict[str, tuple[str, ...]] = dict.fromkeys(("style_size", "width"), ("fast",))
BY_ARCH: dict[str, dict[str, Any]] = {
    "fast": {"content_layer": "relu3_1", "style_weight": 15.0, "tv_weight": 50.0},
    "adain": {"content_layer": "relu4_1", "style_weight": 30.0, "tv_weight": 20.0},
}


@dataclass(kw_only=True)
class StyleTrainConfig(TrainConfig):
    """What a network that paints in one pass is trained on, and how.

    A setting whose default is None has one for each architecture: `by_arch` fills it in.
    """

    data: list[str] = argument(  # type: ignore[assignment]
        "Pictures of the style: files, folders, globs. fast learns a style from each, adain any"
        " style from many."
    )
    images: list[str] = option(
        (), "Photographs to learn from: a folder, file or glob; may be given more than once."
    )
    arch: Arch = option("fast", "fast: one pass for these styles; adain: one pass for any style.")
    features: str = option(
        DEFAULT_FEATURES,
        "Feature network of the losses, and adain's encoder: a bundled one's name, vgg19, vgg16 or"
        " a file.",
    )
    image_size: int = option(128, "Side of the squares to train on, in pixels.", min=32)
    style_size: int = option(
        256, "fast: longest side of the style pictures, and so the size of their strokes.", min=32
    )
    width: int = option(24, "fast: channels of the first layer (32 in the paper).", min=4)
    content_layer: str = option(
        None,
        "Layer in which contents are compared, and adain's encoder ends (fast: relu3_1, adain:"
        " relu4_1). Earlier ones keep more of the photograph, and train sooner.",
    )
    content_weight: float = option(1.0, "Weight of the content's loss.", min=0)
    style_weight: float = option(None, "Weight of the style's loss (fast: 15, adain: 30).", min=0)
    tv_weight: float = option(None, "Weight of the total variation (fast: 50, adain: 20).", min=0)
    val_share: float = option(0.02, "Share of the photographs to validate on.", min=0, max=0.9)
    every: int = option(1, "Write a sheet of examples after every so many epochs.", min=1)
    steps_per_epoch: int = option(
        0, "Steps after which an epoch ends; 0: one pass over the photographs.", min=0
    )
    epochs: int = option(
        20, "Passes over the photographs, or stretches of --steps-per-epoch.", min=1
    )
    batch_size: int = option(8, "Photographs of one step, over all processes together.", min=1)
    weight_decay: float = option(0.0, "Weight decay; biases and norms have none.", min=0)
    warmup: float = option(0.1, "Epochs over which the learning rate rises from zero.", min=0)


def by_arch(config: StyleTrainConfig) -> StyleTrainConfig:
    """The settings with the architecture's own defaults filled in.

    A DlkitError for options that it does not have.
    """
    refuse_unused(config, OWN)
    own = BY_ARCH[config.arch].items()
    return replace(config, **{name: v for name, v in own if getattr(config, name) is None})
