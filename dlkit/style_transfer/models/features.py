"""VGG feature networks for content and style losses (Gatys et al. 2016).

Layers are named as in the paper: relu4_2 is the output of the second ReLU of the fourth stage, and
conv4_2 its input. Shapes: B images, C channels, H x W pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_file
from dlkit.core.nn.rebuild import restore
from dlkit.core.store import checkpoint, schema, torchvision
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.core.vision import imagenet

Pooling = Literal["average", "max"]
Padding = Literal["zeros", "replicate"]
PUBLISHED = {"vgg16": "vgg16-imagenet", "vgg19": "vgg19-imagenet"}  # to their names in classify
ARCH = "features"  # of checkpoints of feature networks
# Convolutions per stage of VGG-16 and VGG-19, and their channels.
STAGES = ((2, 2, 3, 3, 3), (2, 2, 4, 4, 4))
WIDTHS = (64, 128, 256, 512, 512)
SMALL = ((2, 2, 2, 2, 2), (8, 16, 32, 64, 64))  # stages and channels of `random:SEED`
# Inputs of Caffe's networks are from 0 to 255, minus this mean.
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255,) * 3
MIN_SHARE = 0.1  # least mean of a map in `normalize`, relative to the mean of its layer


class FeatureSettings(TypedDict):
    """The settings of a feature network, in its header and in that of adain: its arguments."""

    stages: list[Annotated[int, schema.Within(1, 64)]]  # convolutions of each
    widths: list[schema.Count]  # channels of each stage
    mean: NotRequired[list[float]]  # of inputs from 0 to 1
    std: NotRequired[list[schema.Deviation]]
    bgr: NotRequired[bool]  # whether the weights are for channels in reverse order
    pooling: NotRequired[Pooling]
    padding: NotRequired[Padding]


class FeatureNetwork(nn.Module):
    """Convolutions, ReLUs and pools of a VGG, with frozen weights.

    `mean` and `std` are of RGB values from 0 to 1; with `bgr` the network's input is BGR. Average
    `pooling` gives smoother pictures than max (Gatys et al. 2016, section 2). Classifiers are
    trained with zero `padding`; replicate padding avoids a frame along the border.
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
        if len(stages) != len(widths) or not len(mean) == len(std) == 3:
            raise DlkitError("widths and stages, or mean and std, are not of one length")
        self.settings: FeatureSettings = {
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
        """The names of all layers except pools, in order."""
        return tuple(name for name in self.steps if not name.startswith("pool"))

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The maps (B, K, h, w) of these layers for RGB images (B, 3, H, W) from 0 to 1.

        The computation ends at the last of the layers.
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
        """Raise DlkitError for a layer that the network does not have."""
        if unknown := [name for name in layers if name not in self.layers]:
            raise DlkitError(f"unknown layer {unknown[0]!r}; choose from {', '.join(self.layers)}")

    def convolutions(self) -> Iterator[tuple[str, nn.Conv2d]]:
        """Yield the convolutions with the names of their ReLUs, in order."""
        for name, step in self.steps.items():
            if isinstance(step, nn.Conv2d):
                yield name.replace("conv", "relu"), step

    @torch.no_grad()
    def normalize(self, images: Tensor) -> None:
        """Rescale the weights so that each map has mean 1 over these images and all positions.

        As in section 2 of Gatys et al. 2016: ReLUs and pools are homogeneous, so that all maps keep
        their content up to scale. Loss weights then have the same meaning in every layer and
        network.
        """
        maps = self(images, [name for name, _ in self.convolutions()])
        before: Tensor | None = None
        for name, convolution in self.convolutions():
            mean = maps[name].float().mean(dim=(0, 2, 3))
            mean = mean.clamp(min=max(float(mean.mean()) * MIN_SHARE, 1e-12))
            if before is not None:
                convolution.weight *= before.view(1, -1, 1, 1)
            convolution.weight /= mean.view(-1, 1, 1, 1)
            convolution.bias /= mean
            before = mean

    def truncate(self, layer: str) -> "FeatureNetwork":
        """Remove the steps after this layer, in place."""
        self.check([layer])
        names = list(self.steps)
        for name in names[names.index(layer) + 1 :]:
            del self.steps[name]
        return self

    @staticmethod
    def stride(layer: str) -> int:
        """The stride of a layer, in pixels per position."""
        return int(2 ** (int(layer[4]) - 1))


def load_features(
    name: str, device: torch.device, pooling: Pooling = "average", caffe: bool = False
) -> FeatureNetwork:
    """Load a feature network: bundled, `vgg19` or `vgg16` with ImageNet weights, or from a file.

    A file is a checkpoint of a feature network or of a VGG of `dlkit classify`, or a .pth file with
    torchvision's names. `random:SEED` is a small untrained network. `caffe` selects the
    preprocessing of Caffe's networks for `vgg19`, `vgg16` and .pth files: BGR values from 0 to 255,
    minus the mean.
    """
    published = PUBLISHED.get(name)
    if caffe and published is None and not name.endswith(".pth"):
        raise DlkitError(
            f"--caffe is for {', '.join(PUBLISHED)} and .pth files, not {name}, which has its own"
            " preprocessing; remove it"
        )
    kind, _, seed = name.partition(":")
    if kind == "random":
        network = build_untrained(seed, pooling)
    elif name.endswith(".pth"):
        network = from_torchvision(Path(name), pooling, caffe)
    elif published is not None:
        network = from_classifier(published, pooling, caffe)
    else:
        path = find("style-transfer", name, PUBLISHED)
        if checkpoint.read_header(path).task != "classify":
            return from_checkpoint(path, pooling).to(device)
        network = from_classifier(str(path), pooling)
    network.normalize(photo_like_noise(2, 64))
    return network.to(device)


def build_untrained(seed: str, pooling: Pooling) -> FeatureNetwork:
    """A small network with random weights."""
    if not seed.isdigit():
        raise DlkitError(f"random:{seed}: the seed is not a number; give one, as in random:0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return FeatureNetwork(*SMALL, pooling=pooling)


def from_checkpoint(path: Path, pooling: Pooling) -> FeatureNetwork:
    """The feature network of a checkpoint, which is normalized already."""

    def build(header: Header) -> FeatureNetwork:
        if header.arch != ARCH:
            raise DlkitError(f"it is a painter ({header.arch}), not a feature network")
        stored: FeatureSettings = schema.fit(FeatureSettings, header.settings)
        settings: FeatureSettings = {**stored, "pooling": pooling}
        return FeatureNetwork(**settings)

    return restore(path, "style-transfer", build)[1]


def from_classifier(name: str, pooling: Pooling, caffe: bool = False) -> FeatureNetwork:
    """The convolutions of a VGG of `dlkit classify`, with batch norms folded in."""
    backbone, settings = backbones.load(name)
    inputs = backbone.preprocessing
    if not settings["arch"].startswith("vgg") or inputs.channels != 3:
        raise DlkitError(f"{name}: not a VGG for color images ({settings['arch']}); give one")
    backbone.fuse()
    convolutions = [[m for m in s if isinstance(m, nn.Conv2d)] for s in backbone.stages]  # type: ignore[attr-defined]
    stages = [stage for stage in convolutions if stage]
    network = FeatureNetwork(
        [len(stage) for stage in stages],
        [stage[0].out_channels for stage in stages],
        CAFFE_MEAN if caffe else inputs.mean,
        CAFFE_STD if caffe else inputs.std,
        caffe,
        pooling,
    )
    copy_weights(network, [(c.weight, c.bias) for stage in stages for c in stage])
    return network


def from_torchvision(file: Path, pooling: Pooling, caffe: bool) -> FeatureNetwork:
    """The convolutions of a VGG-16 or VGG-19 file of torchvision, without batch norms."""
    if not is_file(file):
        raise DlkitError("no such file", file)
    state = torchvision.read(file)
    names = [n for n, t in state.items() if n.startswith("features.") and t.dim() == 4]
    counts = {sum(counts): counts for counts in STAGES}.get(len(names))
    if counts is None:
        raise DlkitError(f"not a VGG-16 or VGG-19 ({len(names)} convolutions); give one", file)
    mean, std = (CAFFE_MEAN, CAFFE_STD) if caffe else (imagenet.MEAN, imagenet.STD)
    network = FeatureNetwork(counts, WIDTHS, mean, std, caffe, pooling)
    try:
        copy_weights(network, [(state[n], state[n.replace("weight", "bias")]) for n in names])
    except (RuntimeError, KeyError) as error:
        raise DlkitError(f"{file}: its weights do not fit a VGG of {len(names)} layers") from error
    return network


@torch.no_grad()
def copy_weights(network: FeatureNetwork, weights: Sequence[tuple[Tensor, Tensor | None]]) -> None:
    """Copy weights and biases, one pair per convolution, in order."""
    for (_, convolution), (weight, bias) in zip(network.convolutions(), weights, strict=True):
        convolution.weight.copy_(weight)
        if bias is not None and convolution.bias is not None:
            convolution.bias.copy_(bias)


def photo_like_noise(count: int, side: int) -> Tensor:
    """Fixed noise (count, 3, side, side) with the spectrum of photographs.

    The amplitude is proportional to 1 / frequency, with correlated channels (Field 1987).
    """
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    noise = noise + 2 * noise[:, :1]
    rows = torch.fft.fftfreq(side).view(-1, 1)
    frequency = (rows**2 + torch.fft.rfftfreq(side) ** 2).sqrt().clamp(min=1 / side)
    images = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(side, side))
    images = images - images.mean(dim=(2, 3), keepdim=True)
    y: Tensor = (0.45 + 0.25 * images / images.std(dim=(1, 2, 3), keepdim=True)).clamp(0, 1)
    return y
