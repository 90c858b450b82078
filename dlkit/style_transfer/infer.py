"""From photographs and styles to paintings by optimization: `paint()` (Gatys et al. 2016).

Shapes: H x W pixels of a photograph as shown, h x w those that are painted.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.parallel import device, distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import Bar, log
from dlkit.core.vision import images
from dlkit.style_transfer import color, masks
from dlkit.style_transfer.config import DEFAULT_FEATURES
from dlkit.style_transfer.models.features import FeatureNetwork, Pooling, load_features
from dlkit.style_transfer.optimize import Objective, Optimizer, Step, first_picture, optimize, used
from dlkit.style_transfer.plan import Job, spoken
from dlkit.style_transfer.preview import ProgressRecorder
from dlkit.style_transfer.tile import TiledFeatures

LEAST_STYLE = 32  # pixels of a style's shorter side: less shows no strokes
LEAST_SIDE = 16  # of what is painted: a place of the deepest maps
LEAST_SHARE = 1 / 8  # of the longest side, up to PANORAMA pixels: a panorama's shorter side
PANORAMA = 64
COARSE_SIDE = 256  # at least, of the coarsest scale
FALLBACK_TILE = 512
HISTORY = 20  # of L-BFGS: pairs of pictures
USABLE = 0.8  # of the free memory

Colors = Literal["style", "luminance", "histogram"]


@dataclass(frozen=True)
class Painting:
    """A painting: its file, and the weighed losses of content and style in the end."""

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
class Method:
    """How pictures are painted.

    `size` is the longest side that is painted, and `style_size` that of the styles (None: the
    same); the result is enlarged to the photograph's size unless `as_painted`. `init` is `content`,
    `noise` or an image's path. `colors` are those of the style, or the photograph's kept in one
    of two ways. `scales` None: as many halvings as a large picture needs. `tile` None: where memory
    is short.
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
    device_name: str = "auto",
    pooling: Pooling = "average",
    caffe: bool = False,
) -> FeatureNetwork:
    """The feature network of that name, file or URL, on the device."""
    return load_features(name, device.choose(device_name), pooling, caffe)


def paint(
    jobs: Sequence[Job],
    network: FeatureNetwork,
    objective: Objective,
    method: Method,
) -> Iterator[Painting | Failure]:
    """Paint one by one, in order; a Failure for what cannot be read, or whose loss is no number.

    Ctrl-C saves the picture that is reached, yields it, and is raised again. Under torchrun the
    processes share the work.
    """
    layers = {**objective.content_layers, **objective.style_layers}
    network.check(list(layers))

    def results(process: Process) -> Iterator[Painting | Failure]:
        for job in process.share(jobs):
            try:
                painting, ended_by = paint_one(job, network, objective, method)
            except DlkitError as error:
                yield Failure(job.photo, str(error))
                continue
            except Exception as error:
                if not device.out_of_memory(error):
                    raise
                yield Failure(job.photo, f"no memory is left: {smaller(method)}")
                continue
            if isinstance(ended_by, DlkitError):
                yield Failure(job.photo, f"{ended_by}; {painting.output} keeps the last picture")
                continue
            yield painting
            if ended_by is not None:
                raise ended_by

    def gathered() -> Iterator[Painting | Failure]:
        with distributed.launch(str(network.mean.device)) as process:
            yield from process.gather(results(process))

    return gathered()


def paint_one(
    job: Job, network: FeatureNetwork, objective: Objective, method: Method
) -> tuple[Painting, BaseException | None]:
    """The painting, and what ended it early: a KeyboardInterrupt, or a DlkitError of the loss."""
    began = time.monotonic()
    canvas = Canvas(job, network, method)
    network = within_memory(network, objective, method, canvas)
    way = ProgressRecorder(job.target, method.every, method.preview, method.steps)
    bar = Bar(job.target.name, method.steps)
    reached: Step | None = None
    ended_by: BaseException | None = None
    try:
        for reached in optimize(
            canvas.content,
            canvas.styles,
            canvas.start,
            network,
            objective,
            method.steps,
            method.optimizer,
            canvas.masks,
            canvas.scales,
            method.lr,
            method.precision,
        ):
            way.see(reached.number, partial(canvas.finished, reached.picture))
            if reached.number:
                bar.advance(partial(in_words, reached.losses))
    except (KeyboardInterrupt, DlkitError) as error:
        if reached is None:
            raise
        ended_by = error
    finally:
        bar.close()
    assert reached is not None
    picture = canvas.finished(reached.picture)
    images.save(picture, job.target)
    way.save(picture)
    return (
        Painting(
            job.photo,
            spoken(job.styles),
            str(job.target),
            *picture.size,
            reached.number,
            round(reached.losses.get("content", 0.0), 6),
            round(reached.losses.get("style", 0.0), 6),
            round(time.monotonic() - began, 1),
        ),
        ended_by,
    )


def in_words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "total")


class Canvas:
    """What one painting starts from, on the device, and how its picture is finished."""

    def __init__(self, job: Job, network: FeatureNetwork, method: Method) -> None:
        self.method, self.device = method, network.mean.device
        self.photo = read(job.photo)
        height, width = self.photo.shape[1:]
        size = work_size(width, height, method.size)
        if max(size) > method.size:
            log(f"{job.photo}: painted at {size[0]} x {size[1]}, so that no side is too short")
        content = resized(self.photo, size)
        side = method.style_size or method.size
        styles = [read_style(style.name, side) for style in job.styles]
        if method.colors == "histogram":
            styles = [color.matched(style, content) for style in styles]
        elif method.colors == "luminance":
            styles = [color.gray_like(style, content) for style in styles]
            content = color.gray(content)
        shares = [style.share for style in job.styles]
        self.content = self.on_device(content)
        self.styles = [
            (self.on_device(style), share) for style, share in zip(styles, shares, strict=True)
        ]
        self.whole_masks: Tensor | None = None
        self.masks: list[Tensor] | None = None
        if method.masks:
            self.whole_masks = masks.read_masks(method.masks, width, height)
            self.masks = list(masks.resized(self.whole_masks, size[1], size[0]).to(self.device))
        self.start = first_picture(self.first(), self.content, method.seed)
        self.scales = scales_for(size, method.scales)

    def first(self) -> Literal["content", "noise"] | Tensor:
        """What the painting starts from."""
        init = self.method.init
        if init == "content":
            return "content"
        if init == "noise":
            return "noise"
        try:
            return self.on_device(read(init))
        except DlkitError as error:
            raise DlkitError(f"--init {init}: {error}") from error

    def on_device(self, picture: Tensor) -> Tensor:
        return picture[None].to(self.device)

    def finished(self, picture: Tensor) -> Image.Image:
        """The picture (1, 3, h, w) at its size, in its colors and within its masks."""
        painting = picture[0].float().cpu()
        photo, size = self.photo, self.photo.shape[1:]
        if self.method.as_painted:
            size = self.content.shape[2:]
            photo = resized(photo, (size[1], size[0]))
        painting = resized(painting, (size[1], size[0]))
        if self.method.colors == "luminance":
            painting = color.with_chroma_of(photo, painting)
        if self.whole_masks is not None:
            whole = masks.resized(self.whole_masks, size[0], size[1])
            painting = masks.painted_within(whole, painting, photo)
        return as_pillow(painting)


def read(path: str) -> Tensor:
    """An image (3, H, W) from 0 to 1, in sRGB."""
    return images.read(path, true_colors=True).pixels.float() / 255


def read_style(path: str, side: int) -> Tensor:
    """A style's picture (3, h, w) with this longest side, or its own where that is shorter."""
    try:
        style = read(path)
    except DlkitError as error:
        raise DlkitError(f"the style {path}: {error}") from error
    height, width = style.shape[1:]
    if min(height, width) < LEAST_STYLE:
        raise DlkitError(
            f"the style {path}: {width} x {height} pixels show no strokes: give a picture of at"
            f" least {LEAST_STYLE} a side"
        )
    return resized(style, work_size(width, height, side))


def as_pillow(picture: Tensor) -> Image.Image:
    """A picture (3, H, W) from 0 to 1 in eight bits."""
    pixels = (picture.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def work_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height to paint at: the longest side as asked, nothing enlarged without need.

    The shorter side of a panorama is not made so short that no stroke fits in.
    """
    least = max(LEAST_SIDE, min(PANORAMA, round(LEAST_SHARE * longest)))
    shortest = min(width, height)
    share = min(1.0, max(longest / max(width, height), least / shortest))
    share = max(share, LEAST_SIDE / shortest)
    return round(width * share), round(height * share)


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (3, H, W) at another width and height; between 0 and 1 it stays there."""
    width, height = size
    if picture.shape[1:] == (height, width):
        return picture
    larger = width * height > picture[0].numel()
    found: Tensor = F.interpolate(
        picture[None],
        size=(height, width),
        mode="bicubic" if larger else "bilinear",
        align_corners=False,
        antialias=True,
    )[0]
    return found.clamp(0, 1) if larger else found


def scales_for(size: tuple[int, int], wanted: int | None = None) -> int:
    """How many sizes to paint at, each twice the one before; `wanted` None: as it needs.

    Strokes have the size that the network sees: a large picture gets its large forms first.
    """
    scales = 1
    while max(size) / 2**scales >= COARSE_SIDE and min(size) / 2**scales >= LEAST_SIDE:
        scales += 1
    if wanted is not None and min(size) / 2 ** (wanted - 1) < LEAST_SIDE:
        raise DlkitError(
            f"--scales {wanted}: the coarsest picture of {size[0]} x {size[1]} pixels would have"
            f" less than {LEAST_SIDE} a side"
        )
    return wanted or scales


def within_memory(
    network: FeatureNetwork, objective: Objective, method: Method, canvas: Canvas
) -> FeatureNetwork:
    """The network, in tiles if asked for or if the whole picture's maps would not fit."""
    if method.tile is not None:
        return TiledFeatures(network, method.tile)
    free = device.free_memory(canvas.device)
    needed = bytes_needed(network, objective, method, canvas)
    if free is None or needed <= USABLE * free:
        return network
    log(
        f"{needed / 1e9:.1f} GB would be needed and {free / 1e9:.1f} GB are free:"
        f" painted in tiles of {FALLBACK_TILE} pixels"
    )
    return TiledFeatures(network, FALLBACK_TILE)


def bytes_needed(
    network: FeatureNetwork, objective: Objective, method: Method, canvas: Canvas
) -> int:
    """About what the maps of a picture, kept for the gradient, and the optimizer take."""
    wanted = {
        *used(objective.content_layers, objective.content_weight),
        *used(objective.style_layers, objective.style_weight),
    }
    numbers, channels, stride = 0.0, 3, 1
    for name in network.layers:
        step = network.steps[name]
        if isinstance(step, nn.Conv2d):
            channels, stride = step.out_channels, network.stride(name)
        numbers += channels / stride**2
        wanted.discard(name)
        if not wanted:
            break
    width = 4 if device.dtype(canvas.device, method.precision) == torch.float32 else 2
    pixels = canvas.content[0, 0].numel()
    return int(pixels * (numbers * width + 3 * 4 * (2 * HISTORY + 6)))


def smaller(method: Method) -> str:
    """What to do when memory does not suffice."""
    if method.tile is not None:
        return f"try --tile {max(128, method.tile // 2)} or --size {method.size // 2}"
    return f"try --tile {FALLBACK_TILE}, or --size {method.size // 2}"
