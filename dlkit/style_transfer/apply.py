"""Style transfer in one forward pass of a trained network: `apply()`, which streams.

Shapes: B images of a batch, H x W pixels.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.nn.rebuild import restore
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.sharding import map_shard
from dlkit.core.progress import track
from dlkit.core.store import checkpoint, weights
from dlkit.core.vision import images
from dlkit.core.vision.batches import BATCH_PIXELS, WINDOW, group_by_shape
from dlkit.style_transfer import color
from dlkit.style_transfer.config import DEFAULT_MODEL
from dlkit.style_transfer.infer import Colors, read_style, to_pillow
from dlkit.style_transfer.model import ARCHITECTURES, Painter, build_from
from dlkit.style_transfer.plan import PlannedPainting, Style, join_names, stem
from dlkit.style_transfer.tile import paint_in_tiles

TILE = 1024  # side of the tiles of large photographs


@dataclass(frozen=True)
class StyledImage:
    """A photograph in a style, and the file and size of the painting."""

    noun: ClassVar = "painting"
    units: ClassVar = {"width": "px", "height": "px"}

    path: str
    style: str
    output: str
    width: int
    height: int


@dataclass(frozen=True)
class Stylizer:
    """A loaded painter; `styles` are those it was trained on, empty if it accepts any."""

    name: str
    network: Painter
    styles: list[str]
    device: torch.device
    precision: str


@dataclass(frozen=True)
class ApplyOptions:
    """Options of `apply`.

    `size` is the longest side of the paintings (None: the photograph's), `style_size` that of the
    style images; `tile` None: tiles for large photographs only.
    """

    size: int | None = None
    style_size: int = 512
    strength: float = 1.0
    colors: Colors = "style"
    tile: int | None = None
    batch_size: int = 4
    workers: int = 2


def load(model: str = DEFAULT_MODEL, device: str = "auto", precision: str = "auto") -> Stylizer:
    """Load a painter by name, file or URL."""
    chosen = devices.choose(device)
    devices.dtype(chosen, precision)  # raises DlkitError if the device does not support it
    devices.tune_malloc()
    path = weights.find("style-transfer", model)
    if checkpoint.read_header(path, "style-transfer").arch not in ARCHITECTURES:
        raise DlkitError("a feature network, which does not paint; use it with --features", model)
    header, network = restore(path, "style-transfer", build_from, model)
    network.eval().requires_grad_(False).to(chosen).to(memory_format=torch.channels_last)
    return Stylizer(model, network, [] if network.any_style else header.labels, chosen, precision)


@torch.inference_mode()
def blend_codes(model: Stylizer, styles: Sequence[Style], side: int = 512) -> Tensor:
    """The weighted mean of the codes of styles.

    A style is an image, or, for a painter of fixed styles, the name of one or a file of that name.
    """
    codes = []
    for style in styles:
        if model.network.any_style:
            picture = read_style(style.name, side)[None].to(model.device)
            with devices.autocast(model.device, model.precision):
                codes.append(style.share * model.network.code(picture))
        else:
            number = style_index(model, style.name)
            if number is None:
                raise DlkitError(
                    f"--style {style.name}: unknown to {model.name}; choose from"
                    f" {', '.join(model.styles)}"
                )
            codes.append(style.share * model.network.code(number))
    total: Tensor = torch.stack(codes).sum(dim=0) / sum(style.share for style in styles)
    return total


def style_index(model: Stylizer, style: str) -> int | None:
    """The index of a style that the painter was trained on, by name or by a file of that name."""
    names = [name for name in (style, stem(style)) if name in model.styles]
    return model.styles.index(names[0]) if names else None


def apply(
    planned: Sequence[PlannedPainting],
    styles: Sequence[tuple[Style, ...]],
    model: Stylizer,
    options: ApplyOptions,
) -> Iterator[StyledImage | Failure]:
    """Paint each photograph in each of the styles, in the order of `plan_paintings`.

    Yields a Failure for an unreadable photograph. Threads decode photographs ahead and write
    paintings; photographs of one shape form batches; processes of torchrun share the work.
    """
    codes = [blend_codes(model, group, options.style_size) for group in styles]
    photos = [planned[start : start + len(styles)] for start in range(0, len(planned), len(styles))]

    def results(
        groups: Iterable[Sequence[PlannedPainting]],
    ) -> Iterator[list[StyledImage | Failure]]:
        own = list(groups)
        paths = track([group[0].photo for group in own], "painting")
        with ThreadPoolExecutor(max(1, options.workers)) as pool:
            writing: deque[list[Failure | Future[StyledImage | Failure]]] = deque()
            painted = paint_stream(paths, iter(own), codes, model, options)
            for group in painted:
                writing.append(
                    [
                        done
                        if isinstance(done, Failure)
                        else pool.submit(save_painting, done, options)
                        for done in group
                    ]
                )
                while len(writing) > 4 * options.batch_size:
                    yield wait_for(writing.popleft())
            while writing:
                yield wait_for(writing.popleft())

    return chain.from_iterable(map_shard(results, photos, str(model.device)))


@dataclass(frozen=True)
class PendingImage:
    """A painting (3, H, W) to be written, and its photograph, both uint8."""

    item: PlannedPainting
    photo: Tensor = field(repr=False)
    pixels: Tensor = field(repr=False)


def wait_for(
    group: Sequence["Failure | Future[StyledImage | Failure]"],
) -> list[StyledImage | Failure]:
    """The results of paintings that threads are writing."""
    return [entry if isinstance(entry, Failure) else entry.result() for entry in group]


def paint_stream(
    paths: Iterable[str],
    planned: Iterator[Sequence[PlannedPainting]],
    codes: Sequence[Tensor],
    model: Stylizer,
    options: ApplyOptions,
) -> Iterator[list[PendingImage | Failure]]:
    """Yield the paintings of each photograph, one for each code; `planned` has their files."""
    pictures = each(
        lambda path: (path, images.read(path, options.size)),
        paths,
        options.workers,
    )
    while window := next_window(pictures, WINDOW * options.batch_size):
        paintings: dict[int, list[Tensor | str]] = {}
        for members in group_by_shape(window, options.batch_size):
            batch = torch.stack([window[index][1].pixels for index in members])  # type: ignore[index]
            results = [try_paint_batch(batch, code, model, options) for code in codes]
            for place, index in enumerate(members):
                paintings[index] = [one if isinstance(one, str) else one[place] for one in results]
        for (index, entry), group in zip(enumerate(window), planned, strict=False):
            if isinstance(entry, Failure):
                yield [entry]
                continue
            yield [
                Failure(item.photo, one)
                if isinstance(one, str)
                else PendingImage(item, entry[1].pixels, one)
                for item, one in zip(group, paintings.pop(index), strict=True)
            ]


def try_paint_batch(
    batch: Tensor, code: Tensor, model: Stylizer, options: ApplyOptions
) -> Tensor | str:
    """Paintings, uint8 like the batch (B, 3, H, W), or an error message if memory runs out."""
    try:
        return paint_batch(batch, code, model, options)
    except Exception as error:
        if not devices.out_of_memory(error):
            raise
        return f"out of memory; try --tile {(options.tile or TILE) // 2} or a smaller --size"


@torch.inference_mode()
def paint_batch(batch: Tensor, code: Tensor, model: Stylizer, options: ApplyOptions) -> Tensor:
    tile = options.tile or (TILE if batch[0, 0].numel() > BATCH_PIXELS else None)
    photos = batch.to(model.device).float() / 255
    with devices.autocast(model.device, model.precision):
        if tile is None or max(batch.shape[2:]) <= tile:
            painted = model.network.paint(photos, code, options.strength)
        else:
            painted = torch.stack(
                [
                    paint_in_tiles(model.network, photo, code, options.strength, tile)
                    for photo in photos
                ]
            )
    return (painted.float() * 255).round_().clamp_(0, 255).byte().cpu()


def finish_painting(painted: PendingImage, options: ApplyOptions) -> Image.Image:
    """The painting as an image, with the photograph's colors restored if asked to."""
    painting = painted.pixels.float() / 255
    if options.colors != "style":
        photo = painted.photo.float() / 255
        keep = color.keep_chroma if options.colors == "luminance" else color.match_painting_colors
        painting = keep(photo, painting)
    return to_pillow(painting)


def save_painting(painted: PendingImage, options: ApplyOptions) -> StyledImage | Failure:
    """Finish the painting and write it; a Failure where it cannot be written."""
    picture = finish_painting(painted, options)
    item = painted.item
    try:
        images.save(picture, item.target)
    except DlkitError as error:
        return Failure(item.photo, error.reason_for(item.photo))
    return StyledImage(item.photo, join_names(item.styles), str(item.target), *picture.size)
