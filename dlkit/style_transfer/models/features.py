"""The networks whose maps say what is in a picture and how it is painted (Gatys et al. 2016).

Layers are named as in the paper: relu4_2 is the second map, after its ReLU, of the fourth stage;
conv4_2 is the same before the ReLU. Shapes: B images, C channels, H x W pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint, torchvision
from dlkit.core.store.weights import find

Pooling = Literal["average", "max"]
Padding = Literal["zeros", "replicate"]
PUBLISHED = {"vgg16": "vgg16-imagenet", "vgg19": "vgg19-imagenet"}  # and their names in classify
ARCH = "features"  # of a checkpoint that holds a feature network
# Convolutions of the stages of VGG-16 and VGG-19, and their channels.
STAGES = ((2, 2, 3, 3, 3), (2, 2, 4, 4, 4))
WIDTHS = (64, 128, 256, 512, 512)
SMALL = ((2, 2, 2, 2, 2), (8, 16, 32, 64, 64))  # stages and channels of random weights, for tries
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation
# Caffe's networks see values from 0 to 255, less this mean.
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255,) * 3
LEAST_SHARE = 0.1  # of a layer's mean activation: rarer maps are taken for this active


class FeatureNetwork(nn.Module):
    """Convolutions, ReLUs and pools of a VGG; the weights stay as they are.

    `mean` and `std` are of values from 0 to 1, of red, green and blue; with `bgr` the network sees
    blue first. `pooling` average gives smoother pictures than max (Gatys et al. 2016, section 2).
    `padding` zeros is what classifiers learn with; replicate paints no frame along the border.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        stages: Sequence[int],
        widths: Sequence[int],
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
        bgr: bool = False,
        pooling: Pooling = "average",
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "stages": list(stages),
            "widths": list(widths),
            "mean": list(mean),
            "std": list(std),
            "bgr": bgr,
            "pooling": pooling,
            "padding": padding,
        }
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.steps = nn.ModuleDict()
        channels = 3
        for stage, (count, width) in enumerate(zip(stages, widths, strict=True), 1):
            if stage > 1:
                pool = nn.AvgPool2d(2) if pooling == "average" else nn.MaxPool2d(2)
                self.steps[f"pool{stage - 1}"] = pool
            for number in range(1, count + 1):
                convolution = nn.Conv2d(channels, width, 3, padding=1, padding_mode=padding)
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
                self.steps[f"conv{stage}_{number}"] = convolution
                self.steps[f"relu{stage}_{number}"] = nn.ReLU()
                channels = width
        self.requires_grad_(False)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the maps that can be asked for, in their order."""
        return tuple(name for name in self.steps if not name.startswith("pool"))

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The maps (B, K, h, w) of these layers, of RGB images (B, 3, H, W) from 0 to 1.

        Nothing is computed beyond the last of them.
        """
        self.check(layers)
        x = (images - self.mean) / self.std
        if self.bgr:
            x = x.flip(1)
        x = x.contiguous(memory_format=torch.channels_last)
        maps: dict[str, Tensor] = {}
        for name, step in self.steps.items():
            if len(maps) == len(set(layers)):
                break
            x = step(x)
            if name in layers:
                maps[name] = x
        return maps

    def check(self, layers: Sequence[str]) -> None:
        """A DlkitError for a layer that the network does not have."""
        if unknown := [name for name in layers if name not in self.layers]:
            raise DlkitError(f"no layer {unknown[0]!r}: there is {', '.join(self.layers)}")

    def convolutions(self) -> Iterator[tuple[str, nn.Conv2d]]:
        """The convolutions with the names of their ReLUs' maps, in their order."""
        for name, step in self.steps.items():
            if isinstance(step, nn.Conv2d):
                yield name.replace("conv", "relu"), step

    @torch.no_grad()
    def normalize(self, images: Tensor) -> None:
        """Scale each map so that its mean over these images and all places is 1.

        As in section 2 of Gatys et al. 2016: later maps stay the same up to their own scale, since
        ReLUs and pools scale with their input. So weights of losses mean the same in every layer
        and network.
        """
        maps = self(images, [name for name, _ in self.convolutions()])
        before: Tensor | None = None
        for name, convolution in self.convolutions():
            mean = maps[name].float().mean(dim=(0, 2, 3))
            mean = mean.clamp(min=max(float(mean.mean()) * LEAST_SHARE, 1e-12))
            if before is not None:
                convolution.weight *= before.view(1, -1, 1, 1)
            convolution.weight /= mean.view(-1, 1, 1, 1)
            convolution.bias /= mean
            before = mean

    def up_to(self, layer: str) -> "FeatureNetwork":
        """This network without the steps behind that layer."""
        self.check([layer])
        names = list(self.steps)
        for name in names[names.index(layer) + 1 :]:
            del self.steps[name]
        return self

    @staticmethod
    def stride(layer: str) -> int:
        """The pixels, across and down, that a place of the layer stands for."""
        return int(2 ** (int(layer[4]) - 1))


def load_features(
    name: str, device: torch.device, pooling: Pooling = "average", caffe: bool = False
) -> FeatureNetwork:
    """A feature network: bundled, `vgg19` or `vgg16` with ImageNet weights, or of a file.

    A file is a checkpoint of a feature network or of a VGG of `dlkit classify`, or a .pth file with
    torchvision's names. `random:SEED` is a small untrained one. With `caffe`, the weights of
    `vgg19`, `vgg16` or a .pth file see images as Caffe's networks do: blue first, values from 0 to
    255, less the mean.
    """
    published = PUBLISHED.get(name)
    if caffe and published is None and not name.endswith(".pth"):
        raise DlkitError(
            f"Caffe's preprocessing is for {', '.join(PUBLISHED)} and .pth files: {name} has its"
            " own"
        )
    kind, _, seed = name.partition(":")
    if kind == "random":
        network = untrained(seed, pooling)
    elif name.endswith(".pth"):
        network = of_torchvision(Path(name), pooling, caffe)
    elif published is not None:
        network = of_classifier(published, pooling, caffe)
    else:
        path = find("style-transfer", name, PUBLISHED)
        if checkpoint.read_header(path).task != "classify":
            return of_checkpoint(path, pooling).to(device)
        network = of_classifier(str(path), pooling)
    network.normalize(like_photographs(2, 64))
    return network.to(device)


def untrained(seed: str, pooling: Pooling) -> FeatureNetwork:
    if not seed.isdigit():
        raise DlkitError(f"random:{seed}: the seed is a number, as in random:0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return FeatureNetwork(*SMALL, pooling=pooling)


def of_checkpoint(path: Path, pooling: Pooling) -> FeatureNetwork:
    """The network of a checkpoint of ours, as it was normalized there."""
    header, weights = checkpoint.load(path, "style-transfer")
    if header.arch != ARCH:
        raise DlkitError(f"{path} is a model that paints ({header.arch}), no feature network")
    network = FeatureNetwork(**{**header.settings, "pooling": pooling})
    network.load_state_dict(weights)
    return network


def of_classifier(name: str, pooling: Pooling, caffe: bool = False) -> FeatureNetwork:
    """The convolutions of a VGG of `dlkit classify`, with batch norms folded into them."""
    backbone, settings = backbones.load(name)
    inputs = backbone.preprocessing
    if not settings["arch"].startswith("vgg") or inputs.channels != 3:
        raise DlkitError(f"{name} is no VGG of color images ({settings['arch']})")
    backbone.fuse()
    convolutions = [[m for m in s if isinstance(m, nn.Conv2d)] for s in backbone.stages]  # type: ignore[attr-defined]
    stages = [found for found in convolutions if found]
    network = FeatureNetwork(
        [len(stage) for stage in stages],
        [stage[0].out_channels for stage in stages],
        CAFFE_MEAN if caffe else inputs.mean,
        CAFFE_STD if caffe else inputs.std,
        caffe,
        pooling,
    )
    fill(network, [(c.weight, c.bias) for stage in stages for c in stage])
    return network


def of_torchvision(file: Path, pooling: Pooling, caffe: bool) -> FeatureNetwork:
    """The convolutions of a VGG-16 or VGG-19 in torchvision's names, without batch norms."""
    if not file.is_file():
        raise DlkitError(f"{file}: no such file")
    state = torchvision.read(file)
    names = [n for n, t in state.items() if n.startswith("features.") and t.dim() == 4]
    counts = {sum(counts): counts for counts in STAGES}.get(len(names))
    if counts is None:
        raise DlkitError(f"{file}: no VGG-16 or VGG-19 ({len(names)} convolutions are in it)")
    mean, std = (CAFFE_MEAN, CAFFE_STD) if caffe else IMAGENET
    network = FeatureNetwork(counts, WIDTHS, mean, std, caffe, pooling)
    try:
        fill(network, [(state[n], state[n.replace("weight", "bias")]) for n in names])
    except (RuntimeError, KeyError) as error:
        raise DlkitError(f"{file}: its weights do not fit a VGG of {len(names)} layers") from error
    return network


@torch.no_grad()
def fill(network: FeatureNetwork, weights: Sequence[tuple[Tensor, Tensor | None]]) -> None:
    """Take over these weights and biases, one pair a convolution, in their order."""
    for (_, convolution), (weight, bias) in zip(network.convolutions(), weights, strict=True):
        convolution.weight.copy_(weight)
        if bias is not None and convolution.bias is not None:
            convolution.bias.copy_(bias)


def like_photographs(count: int, side: int) -> Tensor:
    """Noise (count, 3, side, side) with the falling spectrum of photographs, always the same.

    The amplitude goes with 1 / frequency, and the colors mostly go together (Field 1987).
    """
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    noise = noise + 2 * noise[:, :1]
    rows = torch.fft.fftfreq(side).view(-1, 1)
    frequency = (rows**2 + torch.fft.rfftfreq(side) ** 2).sqrt().clamp(min=1 / side)
    images = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(side, side))
    images = images - images.mean(dim=(2, 3), keepdim=True)
    return (0.45 + 0.25 * images / images.std(dim=(1, 2, 3), keepdim=True)).clamp(0, 1)
