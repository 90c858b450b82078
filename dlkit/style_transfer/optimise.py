"""Painting by optimisation: the picture itself is what is learnt (Gatys et al. 2016).

Shapes: H x W pixels, h x w those of a style, K maps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.style_transfer.models.features import FeatureNetwork

Optimizer = Literal["lbfgs", "adam"]


@dataclass(frozen=True)
class Objective:
    """What is minimised: the weighed losses of content and style, and the total variation.

    The layers have weights of their own, by which theirs are multiplied.
    """

    content_weight: float = 1.0
    style_weight: float = 100.0
    tv_weight: float = 0.0
    content_layers: Mapping[str, float] = field(default_factory=lambda: {"relu4_2": 1.0})
    style_layers: Mapping[str, float] = field(
        default_factory=lambda: {f"relu{stage}_1": 0.2 for stage in range(1, 6)}
    )


@dataclass(frozen=True)
class Step:
    """The picture after a step.

    `number` counts from 1 over all scales; `losses` has `content`, `style`, `tv` (weighed) and
    their sum `total`, of the picture before the step; `picture` (1, 3, h, w) from 0 to 1 is
    smaller than the content in the coarse scales.
    """

    number: int
    losses: dict[str, float]
    picture: Tensor


def first_picture(
    init: Literal["content", "noise"] | Tensor, content: Tensor, seed: int = 0
) -> Tensor:
    """Where to start: the content (1, 3, H, W), noise, or a picture resized to the content's."""
    raise NotImplementedError


def optimise(
    content: Tensor,
    styles: Sequence[tuple[Tensor, float]],
    start: Tensor,
    network: FeatureNetwork,
    objective: Objective,
    steps: int = 300,
    optimizer: Optimizer = "lbfgs",
    masks: Sequence[Tensor | None] | None = None,
    scales: int = 1,
    lr: float | None = None,
    precision: str = "auto",
) -> Iterator[Step]:
    """Yield the picture step by step.

    `content` and `start` (1, 3, H, W), `styles` pictures (1, 3, h, w) with their weights, all from
    0 to 1 and on one device. `masks` (H, W) from 0 to 1 say where each style is painted; None:
    everywhere. With `scales` the picture is first painted at 1/2, 1/4, ... of its size, and each
    size gets its share of the steps. Raises a DlkitError when the loss is no number any more; the
    picture yielded before is the last good one.
    """
    raise DlkitError("not yet")
