"""Speed of style transfer by optimization: `python -m tests.benchmarks.style_transfer`.

Against the loop of PyTorch's tutorial "Neural Transfer Using PyTorch", which is copied here: VGG-19
with the same random weights, the tutorial's layers and loss weights, its L-BFGS, and as many
evaluations. dlkit runs the first half of the steps at half the size. The final losses are both
computed in fp32.
"""

import argparse
import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from dlkit.core.vision import imagenet, images
from dlkit.style_transfer.models.features import (
    STAGES,
    WIDTHS,
    FeatureNetwork,
    copy_weights,
)
from dlkit.style_transfer.optimize import Objective, optimize
from tests.benchmarks import harness

CONTENT_LAYERS, STYLE_LAYERS = ["conv_4"], [f"conv_{number}" for number in range(1, 6)]
STYLE_WEIGHT = 1e6
# The same in our names, whose Gram matrices are not divided by the channels.
NAMES = dict(
    zip(["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"], STYLE_LAYERS, strict=True)
)
CHANNELS = (64, 64, 128, 128, 256)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.style_transfer", description=__doc__
    )
    parser.add_argument("content", type=Path)
    parser.add_argument("style", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--brief", action="store_true", help="of dlkit, only the default settings")
    options = parser.parse_args()
    harness.machine(options.threads)
    arguments = (options.content, options.style, options.size, options.steps)
    variants = {
        "dlkit, one size": partial(ours, *arguments, "auto", 1),
        "dlkit, one size, fp32": partial(ours, *arguments, "fp32", 1),
    }
    results = harness.compare_apart(
        f"style-transfer, {options.steps} steps at {options.size} pixels",
        {
            "dlkit": partial(ours, *arguments, "auto", 2),
            **({} if options.brief else variants),
            "PyTorch's tutorial": partial(tutorial, *arguments),
        },
        "steps",
        options.steps,
        options.repeats,
        peer="PyTorch's tutorial",
        threads=options.threads,
        clock=options.clock,
    )
    harness.require(results["dlkit"], at_least=3)


def inputs(content: Path, style: Path, size: int) -> tuple[Tensor, Tensor, nn.Sequential]:
    """Return both images (1, 3, S, S), and VGG-19's convolutions with random weights."""
    pictures = [
        (images.read(str(path), size, "crop").pixels[None] / 255).contiguous()
        for path in (content, style)
    ]
    torch.manual_seed(0)
    network = make_layers(cfgs["E"])
    for layer in network:
        if isinstance(layer, nn.Conv2d):  # as torchvision.models.vgg19() does
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return pictures[0], pictures[1], network


def ours(
    content: Path, style: Path, size: int, steps: int, precision: str, scales: int
) -> Callable[[], str]:
    photo, painting, weights = inputs(content, style, size)
    network = FeatureNetwork(STAGES[1], WIDTHS, imagenet.MEAN, imagenet.STD, pooling="max")
    copy_weights(network, [(m.weight, m.bias) for m in weights if isinstance(m, nn.Conv2d)])
    # The tutorial divides its Gram matrices by the channels, too.
    layers = {name: channels**-2 for name, channels in zip(NAMES, CHANNELS, strict=True)}
    objective = Objective(1.0, STYLE_WEIGHT, 0.0, {"conv2_2": 1.0}, layers)

    def work() -> str:
        *_, last = optimize(
            photo,
            [(painting, 1.0)],
            photo,
            network,
            objective,
            steps,
            scales=scales,
            precision=precision,
        )
        return compute_loss(last.picture, photo, painting, weights)

    return work


def tutorial(content: Path, style: Path, size: int, steps: int) -> Callable[[], str]:
    photo, painting, weights = inputs(content, style, size)

    def work() -> str:
        model, contents, styles = with_losses(weights, photo, painting)
        picture = photo.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([picture])
        done = 0

        def closure() -> Tensor:
            nonlocal done
            with torch.no_grad():
                picture.clamp_(0, 1)
            optimizer.zero_grad()
            model(picture)
            style_score = torch.stack([layer.loss for layer in styles]).sum()
            loss = STYLE_WEIGHT * style_score + contents[0].loss
            loss.backward()
            done += 1
            return loss

        while done < steps:
            optimizer.step(closure)
        return compute_loss(picture.detach().clamp(0, 1), photo, painting, weights)

    return work


@torch.no_grad()
def compute_loss(picture: Tensor, photo: Tensor, painting: Tensor, weights: nn.Sequential) -> str:
    """Return the tutorial's loss of an image, in fp32, as JSON."""
    model, contents, styles = with_losses(weights, photo, painting)
    model(picture)
    content = float(sum(layer.loss for layer in contents))
    style = STYLE_WEIGHT * float(sum(layer.loss for layer in styles))
    return json.dumps({"content": content, "style": style, "total": content + style})


# ---- the tutorial's model ------------------------------------------------------------------------


class ContentLoss(nn.Module):
    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.target = target.detach()
        self.loss = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.loss = F.mse_loss(x, self.target)
        return x


def gram_matrix(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    features = x.reshape(batch * channels, height * width)
    return torch.mm(features, features.t()).div(batch * channels * height * width)


class StyleLoss(nn.Module):
    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.target = gram_matrix(target).detach()
        self.loss = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.loss = F.mse_loss(gram_matrix(x), self.target)
        return x


class Normalization(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(values).view(-1, 1, 1) for values in (imagenet.MEAN, imagenet.STD)
        )
        return (x - mean) / std


def with_losses(
    weights: nn.Sequential, photo: Tensor, painting: Tensor
) -> tuple[nn.Sequential, list[ContentLoss], list[StyleLoss]]:
    """Build the network up to its last loss, with a loss layer after each map it depends on."""
    model, number = nn.Sequential(Normalization()), 0
    contents: list[ContentLoss] = []
    styles: list[StyleLoss] = []
    for layer in copy.deepcopy(weights):
        if isinstance(layer, nn.Conv2d):
            number += 1
        model.append(nn.ReLU() if isinstance(layer, nn.ReLU) else layer)
        if not isinstance(layer, nn.Conv2d):
            continue
        if f"conv_{number}" in CONTENT_LAYERS:
            contents.append(ContentLoss(model(photo)))
            model.append(contents[-1])
        if f"conv_{number}" in STYLE_LAYERS:
            styles.append(StyleLoss(model(painting)))
            model.append(styles[-1])
        if f"conv_{number}" == STYLE_LAYERS[-1]:
            break
    return model.eval().requires_grad_(False), contents, styles


if __name__ == "__main__":
    main()
