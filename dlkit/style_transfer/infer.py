"""Style transfer by optimization of files: `load()` and `paint()` (Gatys et al. 2016).

Shapes: H x W pixels of a photograph, h x w of the optimized picture.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.sharding import map_shard
from dlkit.core.progress import Bar, log
from dlkit.core.vision import images
from dlkit.style_transfer import color, masks
from dlkit.style_transfer.config import DEFAULT_FEATURES
from dlkit.style_transfer.models.features import FeatureNetwork, Pooling, load_features
from dlkit.style_transfer.optimize import (
    Objective,
    Optimizer,
    Step,
    initial_picture,
    nonzero_layers,
    optimize,
)
from dlkit.style_transfer.plan import PlannedPainting, join_names
from dlkit.style_transfer.preview import ProgressRecorder
from dlkit.style_transfer.tile import TiledFeatures

MIN_STYLE_SIDE = 32  # shorter side of a style, in pixels
MIN_SIDE = 16  # of the optimized picture: one position of the deepest maps
MIN_SHARE = 1 / 8  # least shorter side of a panorama relative to the longer, up to PANORAMA
PANORAMA = 64
COARSE_SIDE = 256  # least longest side of the coarsest scale
FALLBACK_TILE = 512
HISTORY = 20  # pairs of L-BFGS, in the estimate of memory
USABLE = 0.8  # share of the free memory

Colors = Literal["style", "luminance", "histogram"]


@dataclass(frozen=True)
class Painting:
    """A painting: its file, and the final weighted losses of content and style."""

    noun: ClassVar = "painting"
    units: ClassVar = {"width": "px", "height": "px"}

    path: str
    style: str
    output: str
    width: int
    height: int
    steps: int
    content_loss: float
    style_loss: float
    seconds: float


@dataclass(frozen=True)
class PaintOptions:
    """Options of `paint`.

    `size` is the longest side of the optimized picture, `style_size` that of the styles (None: the
    same); the result is resized to the photograph's size unless `as_painted`. `init` is `content`,
    `noise` or an image's path. `colors` are the style's, or the photograph's (two methods).
    `scales` None: chosen by the size. `tile` None: tiles if memory is short.
    """

    size: int = 512
    style_size: int | None = None
    as_painted: bool = False
    steps: int = 300
    optimizer: Optimizer = "lbfgs"
    lr: float | None = None
    init: str = "content"
    colors: Colors = "style"
    masks: tuple[str, ...] = ()
    scales: int | None = None
    tile: int | None = None
    seed: int = 0
    precision: str = "auto"
    every: int = 0
    preview: bool = False


def load(
    name: str = DEFAULT_FEATURES,
    device: str = "auto",
    pooling: Pooling = "average",
    caffe: bool = False,
) -> FeatureNetwork:
    """Load a feature network by name, file or URL."""
    return load_features(name, devices.choose(device), pooling, caffe)


def paint(
    planned: Sequence[PlannedPainting],
    network: FeatureNetwork,
    objective: Objective,
    options: PaintOptions,
) -> Iterator[Painting | Failure]:
    """Paint one by one, in order; a Failure for an unreadable image or a loss that is not finite.

    Ctrl-C saves and yields the current picture, and is raised again. Processes of torchrun share
    the work.
    """
    layers = {**objective.content_layers, **objective.style_layers}
    network.check(list(layers))

    def results(items: Iterable[PlannedPainting]) -> Iterator[Painting | Failure]:
        for item in items:
            try:
                painting, ended_by = paint_one(item, network, objective, options)
            except DlkitError as error:
                yield Failure(item.photo, error.reason_for(item.photo))
                continue
            except Exception as error:
                if not devices.out_of_memory(error):
                    raise
                yield Failure(item.photo, f"out of memory; {suggest_smaller(options)}")
                continue
            if isinstance(ended_by, DlkitError):
                yield Failure(item.photo, f"{ended_by}; {painting.output} keeps the last picture")
                continue
            yield painting
            if ended_by is not None:
                raise ended_by

    return map_shard(results, planned, str(network.mean.device))


def paint_one(
    item: PlannedPainting, network: FeatureNetwork, objective: Objective, options: PaintOptions
) -> tuple[Painting, BaseException | None]:
    """The painting, and what interrupted it, if anything: KeyboardInterrupt or a DlkitError."""
    began = time.monotonic()
    recorder = ProgressRecorder(item.target, options.every, options.preview, options.steps)
    picture, step, ended_by = paint_picture(item, network, objective, options, recorder)
    images.save(picture, item.target)
    recorder.save(picture)
    return (
        Painting(
            item.photo,
            join_names(item.styles),
            str(item.target),
            *picture.size,
            step.number,
            *content_and_style(step),
            round(time.monotonic() - began, 1),
        ),
        ended_by,
    )


def content_and_style(step: Step) -> tuple[float, float]:
    """The losses of content and style that results print."""
    return round(step.losses.get("content", 0.0), 6), round(step.losses.get("style", 0.0), 6)


def paint_picture(
    item: PlannedPainting,
    network: FeatureNetwork,
    objective: Objective,
    options: PaintOptions,
    recorder: ProgressRecorder,
) -> tuple[Image.Image, Step, BaseException | None]:
    """The finished picture, the last step, and what interrupted it, if anything."""
    canvas = Canvas(item, network, options)
    network = fit_memory(network, objective, options, canvas)
    bar = Bar(item.target.name, options.steps)
    step: Step | None = None
    ended_by: BaseException | None = None
    try:
        for step in optimize(
            canvas.content,
            canvas.styles,
            canvas.start,
            network,
            objective,
            options.steps,
            options.optimizer,
            canvas.masks,
            canvas.scales,
            options.lr,
            options.precision,
        ):
            recorder.record(step.number, partial(canvas.finish, step.picture))
            if step.number:
                bar.advance(partial(format_losses, step.losses))
    except (KeyboardInterrupt, DlkitError) as error:
        if step is None:
            raise
        ended_by = error
    finally:
        bar.close()
    assert step is not None
    return canvas.finish(step.picture), step, ended_by


def format_losses(losses: dict[str, float]) -> str:
    """The loss terms as a note of the progress bar."""
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "total")


class Canvas:
    """The inputs of one painting on the device, and its postprocessing."""

    def __init__(
        self, item: PlannedPainting, network: FeatureNetwork, options: PaintOptions
    ) -> None:
        self.options, self.device = options, network.mean.device
        self.photo = read(item.photo)
        height, width = self.photo.shape[1:]
        size = working_size(width, height, options.size)
        if max(size) > options.size:
            log(f"{item.photo}: painted at {size[0]} x {size[1]}, so that no side is too short")
        content = resize(self.photo, size)
        side = options.style_size or options.size
        styles = [read_style(style.name, side) for style in item.styles]
        if options.colors == "histogram":
            styles = [color.match_colors(style, content) for style in styles]
        elif options.colors == "luminance":
            styles = [color.match_luminance(style, content) for style in styles]
            content = color.to_gray(content)
        shares = [style.share for style in item.styles]
        self.content = self.on_device(content)
        self.styles = [
            (self.on_device(style), share) for style, share in zip(styles, shares, strict=True)
        ]
        self.whole_masks: Tensor | None = None
        self.masks: list[Tensor] | None = None
        if options.masks:
            self.whole_masks = masks.read_masks(options.masks, width, height)
            self.masks = list(
                masks.resize_masks(self.whole_masks, size[1], size[0]).to(self.device)
            )
        self.start = initial_picture(self.initial(), self.content, options.seed)
        self.scales = count_scales(size, options.scales)

    def initial(self) -> Literal["content", "noise"] | Tensor:
        """The initial picture of `--init`."""
        init = self.options.init
        if init == "content":
            return "content"
        if init == "noise":
            return "noise"
        try:
            return self.on_device(read(init))
        except DlkitError as error:
            raise DlkitError(error.reason_for(init), f"--init {init}") from error

    def on_device(self, picture: Tensor) -> Tensor:
        return picture[None].to(self.device)

    def finish(self, picture: Tensor) -> Image.Image:
        """The picture (1, 3, h, w) at its final size, with colors and masks applied."""
        painting = picture[0].float().cpu()
        photo, size = self.photo, self.photo.shape[1:]
        if self.options.as_painted:
            size = self.content.shape[2:]
            photo = resize(photo, (size[1], size[0]))
        painting = resize(painting, (size[1], size[0]))
        if self.options.colors == "luminance":
            painting = color.keep_chroma(photo, painting)
        if self.whole_masks is not None:
            whole = masks.resize_masks(self.whole_masks, size[0], size[1])
            painting = masks.apply_masks(whole, painting, photo)
        return to_pillow(painting)


def read(path: str) -> Tensor:
    """Read an image (3, H, W) from 0 to 1, in sRGB."""
    return images.read(path).pixels.float() / 255


def read_style(path: str, side: int) -> Tensor:
    """Read a style image (3, h, w) with at most this longest side."""
    try:
        style = read(path)
    except DlkitError as error:
        raise DlkitError(error.reason_for(path), f"the style {path}") from error
    height, width = style.shape[1:]
    if min(height, width) < MIN_STYLE_SIDE:
        raise DlkitError(
            f"{width} x {height} pixels show no strokes; give at least {MIN_STYLE_SIDE} a side",
            f"the style {path}",
        )
    return resize(style, working_size(width, height, side))


def to_pillow(picture: Tensor) -> Image.Image:
    """Convert a picture (3, H, W) from 0 to 1 to 8 bits."""
    pixels = (picture.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def working_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height of the optimized picture: at most `longest`, never enlarged needlessly.

    The shorter side of a panorama stays long enough for strokes.
    """
    least = max(MIN_SIDE, min(PANORAMA, round(MIN_SHARE * longest)))
    shortest = min(width, height)
    share = min(1.0, max(longest / max(width, height), least / shortest))
    share = max(share, MIN_SIDE / shortest)
    return round(width * share), round(height * share)


def resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a picture (3, H, W) from 0 to 1 to this width and height."""
    width, height = size
    if picture.shape[1:] == (height, width):
        return picture
    larger = width * height > picture[0].numel()
    output: Tensor = F.interpolate(
        picture[None],
        size=(height, width),
        mode="bicubic" if larger else "bilinear",
        align_corners=False,
        antialias=True,
    )[0]
    return output.clamp(0, 1) if larger else output


def count_scales(size: tuple[int, int], requested: int | None = None) -> int:
    """The number of scales, each twice the previous size; `requested` None: chosen by the size.

    The receptive field limits the size of strokes, so large pictures start at a coarse scale.
    """
    scales = 1
    while max(size) / 2**scales >= COARSE_SIDE and min(size) / 2**scales >= MIN_SIDE:
        scales += 1
    if requested is not None and min(size) / 2 ** (requested - 1) < MIN_SIDE:
        raise DlkitError(
            f"--scales {requested}: the coarsest scale of {size[0]} x {size[1]} pixels would have"
            f" less than {MIN_SIDE} a side; give fewer scales"
        )
    return requested or scales


def fit_memory(
    network: FeatureNetwork, objective: Objective, options: PaintOptions, canvas: Canvas
) -> FeatureNetwork:
    """The network, tiled on request or if the maps of the whole picture exceed the memory."""
    if options.tile is not None:
        return TiledFeatures(network, options.tile)
    free = devices.free_memory(canvas.device)
    needed = bytes_needed(network, objective, options, canvas)
    if free is None or needed <= USABLE * free:
        return network
    log(
        f"{needed / 1e9:.1f} GB would be needed and {free / 1e9:.1f} GB are free:"
        f" painting in tiles of {FALLBACK_TILE} pixels"
    )
    return TiledFeatures(network, FALLBACK_TILE)


def bytes_needed(
    network: FeatureNetwork, objective: Objective, options: PaintOptions, canvas: Canvas
) -> int:
    """Estimated memory of the maps, which the gradient needs, and of the optimizer."""
    remaining = {
        *nonzero_layers(objective.content_layers, objective.content_weight),
        *nonzero_layers(objective.style_layers, objective.style_weight),
    }
    numbers, channels, stride = 0.0, 3, 1
    for name in network.layers:
        step = network.steps[name]
        if isinstance(step, nn.Conv2d):
            channels, stride = step.out_channels, network.stride(name)
        numbers += channels / stride**2
        remaining.discard(name)
        if not remaining:
            break
    width = 4 if devices.dtype(canvas.device, options.precision) == torch.float32 else 2
    pixels = canvas.content[0, 0].numel()
    return int(pixels * (numbers * width + 3 * 4 * (2 * HISTORY + 6)))


def suggest_smaller(options: PaintOptions) -> str:
    """Advice for running out of memory."""
    if options.tile is not None:
        return f"try --tile {max(128, options.tile // 2)} or --size {options.size // 2}"
    return f"try --tile {FALLBACK_TILE}, or --size {options.size // 2}"
