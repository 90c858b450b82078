"""Style transfer by optimization of the picture itself (Gatys et al. 2016).

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
from dlkit.core.vision.images import MIN_SIDE
from dlkit.style_transfer.lbfgs import LBFGS
from dlkit.style_transfer.loss import content_loss, gram, style_loss, total_variation
from dlkit.style_transfer.models.features import FeatureNetwork

Optimizer = Literal["lbfgs", "adam"]
ADAM_LR = 0.02  # for values from 0 to 1


@dataclass(frozen=True)
class Region:
    """A style to match: Gram matrices and optional masks (1, 1, h, w), by layer."""

    share: float  # of the style loss
    grams: dict[str, Tensor]
    masks: dict[str, Tensor] | None


@dataclass(frozen=True)
class Objective:
    """The weights of the content, style and total variation losses, and of their layers.

    The weight of a loss multiplies the weights of its layers.
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

    `losses` are the weighted `content`, `style` and `tv`, and their sum `total`. `picture`
    (1, 3, h, w) from 0 to 1 is smaller than the content at coarse scales.
    """

    number: int
    losses: dict[str, float]
    picture: Tensor


def initial_picture(
    init: Literal["content", "noise"] | Tensor, content: Tensor, seed: int = 0
) -> Tensor:
    """The initial picture: the content (1, 3, H, W), noise, or an image resized to the content."""
    if isinstance(init, Tensor):
        return resize(init, content.shape[-2:])
    if init == "content":
        return content.clone()
    # Sampled on the CPU, so that a seed gives the same noise on all devices.
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
    """Yield the picture step by step, beginning with `start` as step 0.

    `content` and `start` are (1, 3, H, W), `styles` images (1, 3, h, w) with weights, all from 0 to
    1 and on one device. `masks` (H, W) from 0 to 1 select the region of each style; None: all of
    the picture. With `scales`, the picture is first painted at ..., 1/4 and 1/2 of its size, with
    equal shares of the steps. After a step that increases the loss, the best picture so far is
    yielded. Raises DlkitError if the loss is not finite; pictures yielded before are valid.
    """
    device.tune_malloc()
    network.to(memory_format=torch.channels_last)
    picture = start
    number = 0
    for scale in reversed(range(scales)):
        size = [max(1, round(side / 2**scale)) for side in content.shape[-2:]]
        picture = resize(picture, size).clone()
        loss = StyleTransferLoss(
            resize(content, size),
            [(resize_style(style, scale), weight) for style, weight in styles],
            network,
            objective,
            masks,
            precision,
        )
        update = build_optimizer(optimizer, picture, lr)
        best: Step | None = None  # at this scale
        for _ in range(number, steps * (scales - scale) // scales):
            losses, gradient = loss.with_gradient(picture)
            check_finite(losses, number, objective)
            best = keep_best(best, Step(number, losses, picture.clone()))
            yield best
            update(losses["total"], gradient)
            number += 1
    losses = loss.evaluate(picture)
    check_finite(losses, number, objective)
    yield keep_best(best, Step(number, losses, picture))


def keep_best(best: Step | None, step: Step) -> Step:
    """The step, or the best one under its number if that has a lower loss."""
    if best is None or step.losses["total"] < best.losses["total"]:
        return step
    return replace(best, number=step.number)


def resize(picture: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a picture (1, C, h, w)."""
    if list(picture.shape[-2:]) == list(size):
        return picture
    return F.interpolate(
        picture, size=list(size), mode="bilinear", antialias=True, align_corners=False
    )


def resize_style(style: Tensor, scale: int) -> Tensor:
    """Resize a style to 1 / 2^scale of its size."""
    return resize(style, [max(MIN_SIDE, round(s / 2**scale)) for s in style.shape[-2:]])


def build_optimizer(
    optimizer: Optimizer, picture: Tensor, lr: float | None
) -> Callable[[float, Tensor], None]:
    """A function that updates the picture in place, within 0 to 1, given loss and gradient."""
    if optimizer == "lbfgs":
        lbfgs = LBFGS(1.0 if lr is None else lr, bounds=(0, 1))
        return lambda loss, gradient: lbfgs.step(picture, loss, gradient)
    adam = torch.optim.Adam([picture], lr=ADAM_LR if lr is None else lr)

    def update(_: float, gradient: Tensor) -> None:
        picture.grad = gradient
        adam.step()
        picture.clamp_(0, 1)

    return update


class StyleTransferLoss:
    """The loss of a picture, for one content, its styles and an objective."""

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
        # Layers without weight are not computed.
        self.content_layers = nonzero_layers(objective.content_layers, objective.content_weight)
        self.style_layers = nonzero_layers(objective.style_layers, objective.style_weight)
        self.layers = list({**self.content_layers, **self.style_layers})
        with torch.no_grad():
            self.contents = self.maps(content, list(self.content_layers))
            self.regions = self.build_regions(styles, masks or [None] * len(styles), content)

    def maps(self, pictures: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        with device.autocast(pictures.device, self.precision):
            maps: dict[str, Tensor] = self.network(pictures, layers)
            return maps

    def build_regions(
        self,
        styles: Sequence[tuple[Tensor, float]],
        masks: Sequence[Tensor | None],
        content: Tensor,
    ) -> list[Region]:
        """The regions of the picture with their styles; the whole picture comes first.

        Several styles without masks are combined to the mean of their Gram matrices: the distance
        from the mean and the weighted mean of the distances differ only by a constant.
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
                regions.append(Region(weight / total, grams, self.resize_mask(mask, content)))
        if share_everywhere:
            grams = {name: own / share_everywhere for name, own in everywhere.items()}
            regions.insert(0, Region(share_everywhere, grams, None))
        return regions

    def resize_mask(self, mask: Tensor, content: Tensor) -> dict[str, Tensor]:
        """The mask at the size (1, 1, h, w) of each layer's maps."""
        height, width = content.shape[-2:]
        whole = mask[None, None].to(content)
        masks = {}
        for name in self.style_layers:
            stride = self.network.stride(name)
            masks[name] = resize(whole, [height // stride, width // stride])
        return masks

    def compute_terms(self, picture: Tensor) -> dict[str, Tensor]:
        """The weighted losses by name."""
        objective = self.objective
        parts = {}
        maps = self.maps(picture, self.layers) if self.layers else {}
        if self.content_layers:
            distance = content_loss(maps, self.contents, self.content_layers)
            parts["content"] = objective.content_weight * distance
        if self.regions:
            distances = [
                region.share * style_loss(maps, region.grams, self.style_layers, region.masks)
                for region in self.regions
            ]
            parts["style"] = objective.style_weight * torch.stack(distances).sum()
        if objective.tv_weight:
            parts["tv"] = objective.tv_weight * total_variation(picture)
        return parts

    @torch.no_grad()
    def evaluate(self, picture: Tensor) -> dict[str, float]:
        """The losses of a picture, and their sum `total`."""
        return to_floats(self.compute_terms(picture))

    def with_gradient(self, picture: Tensor) -> tuple[dict[str, float], Tensor]:
        """The losses of a picture, and the gradient of their sum."""
        with torch.enable_grad():
            leaf = picture.detach().requires_grad_()
            parts = self.compute_terms(leaf)
            total = torch.stack(list(parts.values())).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return to_floats(parts), gradient


def nonzero_layers(layers: Mapping[str, float], weight: float) -> dict[str, float]:
    """The layers whose weights are not 0."""
    return {name: own for name, own in layers.items() if own} if weight else {}


def to_floats(parts: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses as numbers, and their sum `total`."""
    numbers = {name: float(part.detach()) for name, part in parts.items()}
    return {**numbers, "total": sum(numbers.values())}


def check_finite(losses: Mapping[str, float], number: int, objective: Objective) -> None:
    """Raise DlkitError, naming the weight to lower, if the loss is not finite."""
    if math.isfinite(losses["total"]):
        return
    wrong = [name for name in losses if not math.isfinite(losses[name])][0]
    raise DlkitError(
        f"the loss is {losses['total']} at step {number}; lower --{wrong}-weight"
        f" (now {getattr(objective, f'{wrong}_weight'):g}) or --lr"
    )
