"""From photographs to paintings in one pass, by trained networks: `apply()`, which streams.

Shapes: B images of a batch, H x W pixels.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.parallel import device, distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import track
from dlkit.core.store import checkpoint, weights
from dlkit.core.vision import images
from dlkit.core.vision.batches import BATCH_PIXELS, WINDOW, next_window, of_one_shape
from dlkit.style_transfer import color
from dlkit.style_transfer.config import DEFAULT_MODEL
from dlkit.style_transfer.infer import Colors, as_pillow, read_style
from dlkit.style_transfer.model import ARCHITECTURES, Painter, build
from dlkit.style_transfer.plan import Job, Style, spoken, stem
from dlkit.style_transfer.tile import paint_in_tiles

TILE = 1024  # of photographs too large to be painted as a whole


@dataclass(frozen=True)
class Applied:
    """A painting made in one pass, and its file."""

    path: str
    style: str
    output: str
    width: int
    height: int


@dataclass(frozen=True)
class Model:
    """A network ready to paint, and what belongs to it; `styles` are those it was trained on."""

    name: str
    network: Painter
    styles: list[str]
    device: torch.device
    precision: str


@dataclass(frozen=True)
class Pass:
    """How photographs are painted.

    `size` is the paintings' longest side (None: the photograph's own), `style_size` that at which
    styles are seen; `tile` None: for large photographs.
    """

    size: int | None = None
    style_size: int = 512
    strength: float = 1.0
    colors: Colors = "style"
    tile: int | None = None
    batch_size: int = 4
    workers: int = 2


def load(model: str = DEFAULT_MODEL, device_name: str = "auto", precision: str = "auto") -> Model:
    """The painter of that name, file or URL, on the device."""
    chosen = device.choose(device_name)
    device.dtype(chosen, precision)
    device.tune_malloc()
    header, tensors = checkpoint.load(weights.find("style-transfer", model), "style-transfer")
    if header.arch not in ARCHITECTURES:
        raise DlkitError(f"{model} does not paint ({header.arch}): it is for --features")
    try:
        network = build(header.arch, **header.settings)
        network.load_state_dict(tensors)
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise DlkitError(
            f"{model}: its weights or settings do not fit the architecture {header.arch};"
            f" it was made by dlkit {header.dlkit}"
        ) from error
    network.eval().requires_grad_(False).to(chosen).to(memory_format=torch.channels_last)
    return Model(model, network, [] if network.any_style else header.labels, chosen, precision)


@torch.inference_mode()
def code_of(model: Model, styles: Sequence[Style], side: int = 512) -> Tensor:
    """What the network needs of styles that are painted together, each with its share.

    A style is a picture, or for a network that knows only some: one of these, by name or by a
    picture of that name.
    """
    codes = []
    for style in styles:
        if model.network.any_style:
            picture = read_style(style.name, side)[None].to(model.device)
            with device.autocast(model.device, model.precision):
                codes.append(style.share * model.network.code(picture))
        else:
            number = number_in(model, style.name)
            if number is None:
                raise DlkitError(
                    f"{model.name} does not know the style {style.name}: it was trained on"
                    f" {', '.join(model.styles)}"
                )
            codes.append(style.share * model.network.code(number))
    total: Tensor = torch.stack(codes).sum(dim=0) / sum(style.share for style in styles)
    return total


def number_in(model: Model, style: str) -> int | None:
    """The number of a style that the painter was trained on, by name or by a file of that name."""
    names = [name for name in (style, stem(style)) if name in model.styles]
    return model.styles.index(names[0]) if names else None


def apply(
    jobs: Sequence[Job], styles: Sequence[tuple[Style, ...]], model: Model, how: Pass
) -> Iterator[Applied | Failure]:
    """Paint each photograph in each of the styles, in order: the jobs that `plan` makes of them.

    A Failure for a photograph that cannot be read. Photographs are decoded ahead and paintings
    written behind in threads; photographs of one shape are painted together. Under torchrun the
    processes share them.
    """
    codes = [code_of(model, group, how.style_size) for group in styles]
    photos = [jobs[start : start + len(styles)] for start in range(0, len(jobs), len(styles))]

    def results(process: Process) -> Iterator[list[Applied | Failure]]:
        own = list(process.share(photos))
        paths = track([group[0].photo for group in own], "painting")
        with ThreadPoolExecutor(max(1, how.workers)) as pool:
            writing: deque[list[Failure | Future[Applied]]] = deque()
            painted = paint_stream(paths, iter(own), codes, model, how)
            for group in painted:
                writing.append(
                    [
                        done if isinstance(done, Failure) else pool.submit(write, done, how)
                        for done in group
                    ]
                )
                while len(writing) > 4 * how.batch_size:
                    yield finished(writing.popleft())
            while writing:
                yield finished(writing.popleft())

    def gathered() -> Iterator[Applied | Failure]:
        with distributed.launch(str(model.device)) as process:
            for group in process.gather(results(process)):
                yield from group

    return gathered()


@dataclass(frozen=True)
class Painted:
    """A painting (3, H, W) that is to be written, and its photograph, both uint8."""

    job: Job
    photo: Tensor = field(repr=False)
    pixels: Tensor = field(repr=False)


def finished(group: Sequence["Failure | Future[Applied]"]) -> list[Applied | Failure]:
    return [entry if isinstance(entry, Failure) else entry.result() for entry in group]


def paint_stream(
    paths: Iterable[str],
    jobs: Iterator[Sequence[Job]],
    codes: Sequence[Tensor],
    model: Model,
    how: Pass,
) -> Iterator[list[Painted | Failure]]:
    """The paintings of each photograph, one for each code; `jobs` has the files they go to."""
    pictures = each(
        lambda path: (path, images.read(path, how.size, true_colors=True)), paths, how.workers
    )
    while window := next_window(pictures, WINDOW * how.batch_size):
        found: dict[int, list[Tensor | str]] = {}
        for members in of_one_shape(window, how.batch_size):
            batch = torch.stack([window[index][1].pixels for index in members])  # type: ignore[index]
            made = [attempt(batch, code, model, how) for code in codes]
            for place, index in enumerate(members):
                found[index] = [one if isinstance(one, str) else one[place] for one in made]
        for (index, entry), wanted in zip(enumerate(window), jobs, strict=False):
            if isinstance(entry, Failure):
                yield [entry]
                continue
            yield [
                Failure(job.photo, one)
                if isinstance(one, str)
                else Painted(job, entry[1].pixels, one)
                for job, one in zip(wanted, found.pop(index), strict=True)
            ]


def attempt(batch: Tensor, code: Tensor, model: Model, how: Pass) -> Tensor | str:
    """Paintings, uint8 like the batch (B, 3, H, W); what to say if memory does not suffice."""
    try:
        return paint_batch(batch, code, model, how)
    except Exception as error:
        if not device.out_of_memory(error):
            raise
        return f"no memory is left: try --tile {(how.tile or TILE) // 2} or a smaller --size"


@torch.inference_mode()
def paint_batch(batch: Tensor, code: Tensor, model: Model, how: Pass) -> Tensor:
    tile = how.tile or (TILE if batch[0, 0].numel() > BATCH_PIXELS else None)
    photos = batch.to(model.device).float() / 255
    with device.autocast(model.device, model.precision):
        if tile is None or max(batch.shape[2:]) <= tile:
            painted = model.network.paint(photos, code, how.strength)
        else:
            painted = torch.stack(
                [paint_in_tiles(model.network, photo, code, how.strength, tile) for photo in photos]
            )
    return (painted.float() * 255).round_().clamp_(0, 255).byte().cpu()


def write(painted: Painted, how: Pass) -> Applied:
    """Give the painting its colors, and write it."""
    painting = painted.pixels.float() / 255
    if how.colors != "style":
        photo = painted.photo.float() / 255
        keep = color.with_chroma_of if how.colors == "luminance" else color.matched_after
        painting = keep(photo, painting)
    picture = as_pillow(painting)
    images.save(picture, painted.job.target)
    job = painted.job
    return Applied(job.photo, spoken(job.styles), str(job.target), *picture.size)
