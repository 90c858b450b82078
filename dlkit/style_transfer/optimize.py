"""Painting by optimization: the picture itself is what is learned (Gatys et al. 2016).

Shapes: H x W pixels, h x w those of a style, K maps.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.parallel import device
from dlkit.core.vision.images import SMALLEST_SIDE
from dlkit.style_transfer.lbfgs import LBFGS
from dlkit.style_transfer.loss import content_loss, gram, style_loss, total_variation
from dlkit.style_transfer.models.features import FeatureNetwork

Optimizer = Literal["lbfgs", "adam"]
ADAM_LR = 0.02  # of values from 0 to 1


@dataclass(frozen=True)
class Region:
    """A style that is asked for: its Gram matrices by layer, and where (1, 1, h, w) in each."""

    share: float  # of the style's loss
    grams: dict[str, Tensor]
    masks: dict[str, Tensor] | None


@dataclass(frozen=True)
class Objective:
    """What is minimized: the weighed losses of content and style, and the total variation.

    The layers have weights of their own, by which theirs are multiplied.
    """

    content_weight: float = 1.0
    style_weight: float = 50.0
    tv_weight: float = 30.0
    content_layers: Mapping[str, float] = field(default_factory=lambda: {"relu4_2": 1.0})
    style_layers: Mapping[str, float] = field(
        default_factory=lambda: {f"relu{stage}_1": 0.2 for stage in range(1, 6)}
    )


@dataclass(frozen=True)
class Step:
    """The best picture after `number` steps.

    `losses` of this picture: `content`, `style` and `tv`, weighed, and their sum `total`.
    `picture` (1, 3, h, w) from 0 to 1 is smaller than the content in the coarse scales.
    """

    number: int
    losses: dict[str, float]
    picture: Tensor


def first_picture(
    init: Literal["content", "noise"] | Tensor, content: Tensor, seed: int = 0
) -> Tensor:
    """Where to start: the content (1, 3, H, W), noise, or a picture resized to the content's."""
    if isinstance(init, Tensor):
        return resized(init, content.shape[-2:])
    if init == "content":
        return content.clone()
    # Drawn on the CPU, so that a seed means the same noise on all devices.
    noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(seed))
    return noise.to(content.device)


def optimize(
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
    """Yield the picture step by step, from the start (step 0) on.

    `content` and `start` (1, 3, H, W), `styles` pictures (1, 3, h, w) with their weights, all from
    0 to 1 and on one device. `masks` (H, W) from 0 to 1 say where each style is painted; None:
    everywhere. With `scales` the picture is first painted at 1/2, 1/4, ... of its size, and each
    size gets its share of the steps. A step that made the picture worse yields the best one so far.
    Raises a DlkitError when the loss is no number any more; what was yielded before is good.
    """
    device.tune_malloc()
    network.to(memory_format=torch.channels_last)
    picture = start
    number = 0
    for scale in reversed(range(scales)):
        size = [max(1, round(side / 2**scale)) for side in content.shape[-2:]]
        picture = resized(picture, size).clone()
        loss = Loss(
            resized(content, size),
            [(shrunk(style, scale), weight) for style, weight in styles],
            network,
            objective,
            masks,
            precision,
        )
        move = mover(optimizer, picture, lr)
        best: Step | None = None  # of this size
        for _ in range(number, steps * (scales - scale) // scales):
            losses, gradient = loss.with_gradient(picture)
            check(losses, number, objective)
            best = better(best, Step(number, losses, picture.clone()))
            yield best
            move(losses["total"], gradient)
            number += 1
    losses = loss.of(picture)
    check(losses, number, objective)
    yield better(best, Step(number, losses, picture))


def better(best: Step | None, step: Step) -> Step:
    """The step, with the picture and the losses of the best one where its own are worse."""
    if best is None or step.losses["total"] < best.losses["total"]:
        return step
    return replace(best, number=step.number)


def resized(picture: Tensor, size: Sequence[int]) -> Tensor:
    """A picture (1, C, h, w) at another size."""
    if list(picture.shape[-2:]) == list(size):
        return picture
    return F.interpolate(
        picture, size=list(size), mode="bilinear", antialias=True, align_corners=False
    )


def shrunk(style: Tensor, scale: int) -> Tensor:
    """A style at 1 / 2^scale of its size, as the content is."""
    return resized(style, [max(SMALLEST_SIDE, round(s / 2**scale)) for s in style.shape[-2:]])


def mover(
    optimizer: Optimizer, picture: Tensor, lr: float | None
) -> Callable[[float, Tensor], None]:
    """What moves the picture, in place, by its loss and gradient, and keeps it from 0 to 1."""
    if optimizer == "lbfgs":
        lbfgs = LBFGS(1.0 if lr is None else lr, bounds=(0, 1))
        return lambda loss, gradient: lbfgs.step(picture, loss, gradient)
    adam = torch.optim.Adam([picture], lr=ADAM_LR if lr is None else lr)

    def move(_: float, gradient: Tensor) -> None:
        picture.grad = gradient
        adam.step()
        picture.clamp_(0, 1)

    return move


class Loss:
    """The objective for one content and its styles, of any picture of the content's size."""

    def __init__(
        self,
        content: Tensor,
        styles: Sequence[tuple[Tensor, float]],
        network: FeatureNetwork,
        objective: Objective,
        masks: Sequence[Tensor | None] | None,
        precision: str,
    ) -> None:
        self.network, self.objective, self.precision = network, objective, precision
        # What has no weight is not computed.
        self.content_layers = used(objective.content_layers, objective.content_weight)
        self.style_layers = used(objective.style_layers, objective.style_weight)
        self.layers = list({**self.content_layers, **self.style_layers})
        with torch.no_grad():
            self.contents = self.maps(content, list(self.content_layers))
            self.regions = self.targets(styles, masks or [None] * len(styles), content)

    def maps(self, pictures: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        with device.autocast(pictures.device, self.precision):
            return self.network(pictures, layers)

    def targets(
        self,
        styles: Sequence[tuple[Tensor, float]],
        masks: Sequence[Tensor | None],
        content: Tensor,
    ) -> list[Region]:
        """The regions of the picture, and what is asked for there; first of styles for all of it.

        Of several styles for all of it, the mean of their Gram matrices is asked for: its distance
        and the weighted mean of the distances to each differ by a constant only.
        """
        total = sum(weight for _, weight in styles)
        if not self.style_layers or total <= 0:
            return []
        regions = []
        everywhere: dict[str, Tensor] = {}
        share_everywhere = 0.0
        for (style, weight), mask in zip(styles, masks, strict=True):
            maps = self.maps(style, list(self.style_layers))
            grams = {name: gram(own) for name, own in maps.items()}
            if mask is None:
                share_everywhere += weight / total
                for name, own in grams.items():
                    everywhere[name] = everywhere.get(name, 0) + own * (weight / total)
            else:
                regions.append(Region(weight / total, grams, self.shrink(mask, content)))
        if share_everywhere:
            grams = {name: own / share_everywhere for name, own in everywhere.items()}
            regions.insert(0, Region(share_everywhere, grams, None))
        return regions

    def shrink(self, mask: Tensor, content: Tensor) -> dict[str, Tensor]:
        """The mask (1, 1, h, w) at the size of each layer's maps."""
        height, width = content.shape[-2:]
        whole = mask[None, None].to(content)
        found = {}
        for name in self.style_layers:
            stride = self.network.stride(name)
            found[name] = resized(whole, [height // stride, width // stride])
        return found

    def parts(self, picture: Tensor) -> dict[str, Tensor]:
        """The weighed losses by name."""
        aim = self.objective
        parts = {}
        maps = self.maps(picture, self.layers) if self.layers else {}
        if self.content_layers:
            distance = content_loss(maps, self.contents, self.content_layers)
            parts["content"] = aim.content_weight * distance
        if self.regions:
            distances = [
                region.share * style_loss(maps, region.grams, self.style_layers, region.masks)
                for region in self.regions
            ]
            parts["style"] = aim.style_weight * torch.stack(distances).sum()
        if aim.tv_weight:
            parts["tv"] = aim.tv_weight * total_variation(picture)
        return parts

    @torch.no_grad()
    def of(self, picture: Tensor) -> dict[str, float]:
        """The losses of a picture, and their sum."""
        return as_numbers(self.parts(picture))

    def with_gradient(self, picture: Tensor) -> tuple[dict[str, float], Tensor]:
        """The losses of a picture, and the gradient of their sum."""
        with torch.enable_grad():
            leaf = picture.detach().requires_grad_()
            parts = self.parts(leaf)
            total = torch.stack(list(parts.values())).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return as_numbers(parts), gradient


def used(layers: Mapping[str, float], weight: float) -> dict[str, float]:
    """The layers that count."""
    return {name: own for name, own in layers.items() if own} if weight else {}


def as_numbers(parts: Mapping[str, Tensor]) -> dict[str, float]:
    numbers = {name: float(part.detach()) for name, part in parts.items()}
    return {**numbers, "total": sum(numbers.values())}


def check(losses: Mapping[str, float], number: int, objective: Objective) -> None:
    """Raise a DlkitError, which names the weight to lower, for a loss that is no number."""
    if math.isfinite(losses["total"]):
        return
    wrong = [name for name in losses if not math.isfinite(losses[name])][0]
    raise DlkitError(
        f"the loss is {losses['total']} at step {number}: lower --{wrong}-weight"
        f" (now {getattr(objective, f'{wrong}_weight'):g}) or --lr"
    )
