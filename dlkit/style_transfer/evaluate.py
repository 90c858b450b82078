"""How far paintings are from their contents and styles, so that methods can be compared."""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import whole_file
from dlkit.core.io.scores import Score, rounded
from dlkit.core.progress import log
from dlkit.core.vision import images
from dlkit.style_transfer import apply, infer
from dlkit.style_transfer.config import DEFAULT_FEATURES, DEFAULT_MODEL
from dlkit.style_transfer.infer import Method, read, read_style, resized
from dlkit.style_transfer.loss import content_loss, gram, style_loss
from dlkit.style_transfer.models.features import FeatureNetwork
from dlkit.style_transfer.optimize import Objective
from dlkit.style_transfer.plan import CELL, Style, plan, shown, stem

GATYS = "gatys"
PHOTO = "photo"  # the photographs as they are
SIDE, STEPS = 256, 300
DEFINITIONS = {
    "content_distance": "Mean square of the differences to the photograph's maps, on the layers"
    " {content}; mean over the paintings.",
    "style_distance": "Mean square of the differences to the style's Gram matrices (means over"
    " places), weighed mean over the layers {style}; mean over the paintings.",
}


@dataclass(frozen=True)
class Distance:
    """How far one painting is from its photograph and its style."""

    method: str
    path: str
    style: str
    content_distance: float | None
    style_distance: float | None


class StyleMetrics:
    """Measures paintings at one size, with the maps that Gatys' objective compares."""

    def __init__(self, network: FeatureNetwork, side: int) -> None:
        self.network, self.side, self.objective = network, side, Objective()
        self.definitions = {
            name: text.format(
                content=", ".join(self.objective.content_layers),
                style=", ".join(self.objective.style_layers),
            )
            + f" Measured at {side} pixels."
            for name, text in DEFINITIONS.items()
        }

    @torch.no_grad()
    def distances(self, photo: str, style: str, painting: str) -> tuple[float, float]:
        """Of content and of style; a painting of another size than the photograph is resized."""
        aim = self.objective
        content = read(photo)
        size = infer.work_size(content.shape[2], content.shape[1], self.side)
        wanted = self.maps(resized(content, size), list(aim.content_layers))
        strokes = self.maps(read_style(style, self.side), list(aim.style_layers))
        grams = {name: gram(maps) for name, maps in strokes.items()}
        maps = self.maps(resized(read(painting), size), [*aim.content_layers, *aim.style_layers])
        return (
            float(content_loss(maps, wanted, aim.content_layers)),
            float(style_loss(maps, grams, aim.style_layers)),
        )

    def maps(self, picture: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return self.network(picture[None].to(self.network.mean.device), layers)


@dataclass(frozen=True)
class Entry:
    """A painting that a method made of a photograph in a style, and where it lies."""

    method: str
    photo: str
    style: str
    painting: str


def compare(
    methods: Sequence[str],
    photos: Sequence[str],
    styles: Sequence[str],
    side: int = SIDE,
    steps: int = STEPS,
    features: str = DEFAULT_FEATURES,
    save: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Score | Failure]:
    """The mean distances of each method's paintings, of each photograph in each style.

    A method is `gatys`, `gatys:NETWORK` with another feature network, or a painter's name, file or
    URL; first come the photographs themselves. A painter of few styles paints in those that it
    knows. With `save`, the paintings, a sheet of all
    and the distances of each are written to a folder.
    """
    if len(set(methods)) < len(methods):
        raise DlkitError("a method is given twice")
    if len({named(method) for method in methods}) < len(methods):
        raise DlkitError(f"{' and '.join(methods)} have one name among them: rename a file")
    gauge = StyleMetrics(infer.load(features, device), side)
    networks = {name: network_of(name, gauge, device) for name in methods if optimizes(name)}
    painters = {
        name: apply.load(name, device, precision) for name in methods if name not in networks
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if save is None else save
        entries = [Entry(PHOTO, photo, style, photo) for photo in photos for style in styles]
        distances: list[Distance] = []
        yield from measured(entries, gauge, distances)
        for method in methods:
            target = folder / named(method)
            if method in networks:
                jobs = plan(photos, [(Style(name),) for name in styles], target)
                how = Method(size=side, steps=steps, as_painted=True, precision=precision)
                results: Iterator[Any] = infer.paint(jobs, networks[method], gauge.objective, how)
            else:
                groups = known(painters[method], styles)
                jobs = plan(photos, groups, target)
                results = apply.apply(jobs, groups, painters[method], apply.Pass(size=side))
            own: list[Entry] = []
            for result in results:
                if isinstance(result, Failure):
                    yield result
                else:
                    own.append(Entry(method, result.path, result.style, result.output))
            yield from measured(own, gauge, distances)
            entries += own
        if save is not None and is_main_process():
            write_distances(distances, save / "distances.csv")
            images.save(sheet(methods, photos, styles, entries), save / "sheet.jpg")


def optimizes(method: str) -> bool:
    """Whether a method is painting by optimization, with whatever feature network."""
    return method.partition(":")[0] == GATYS


def network_of(method: str, gauge: StyleMetrics, device: str) -> FeatureNetwork:
    """The feature network that `gatys:NETWORK` paints with; of `gatys`, the gauge's."""
    name = method.partition(":")[2]
    return infer.load(name, device) if name else gauge.network


def named(method: str) -> str:
    """A method's name as files and captions have it."""
    kind, _, network = method.partition(":")
    if network and optimizes(method):
        return f"{kind}-{stem(network)}".replace(":", "-")
    return stem(method)


def known(painter: apply.Model, styles: Sequence[str]) -> list[tuple[Style, ...]]:
    """The styles that a painter can paint in; the others are said."""
    groups: list[tuple[Style, ...]] = []
    for name in styles:
        if not painter.styles or apply.number_in(painter, name) is not None:
            groups.append((Style(name),))
        else:
            log(f"{painter.name} was not trained on {stem(name)}: left out")
    if not groups:
        raise DlkitError(
            f"{painter.name} knows none of these styles, but {', '.join(painter.styles)}"
        )
    return groups


def measured(
    entries: Sequence[Entry], gauge: StyleMetrics, distances: list[Distance]
) -> Iterator[Score | Failure]:
    """The mean distances of one method's paintings, which are also added to a list one by one."""
    own = []
    for entry in entries:
        try:
            found = gauge.distances(entry.photo, entry.style, entry.painting)
        except DlkitError as error:
            yield Failure(entry.painting, str(error))
            continue
        own.append(Distance(entry.method, entry.photo, entry.style, *map(rounded, found)))
    distances += own
    if own:
        yield from scores(own[0].method, own, gauge)


def scores(label: str, distances: Sequence[Distance], gauge: StyleMetrics) -> Iterator[Score]:
    for name, definition in gauge.definitions.items():
        values = [getattr(distance, name) for distance in distances]
        yield Score(name, label, rounded(sum(values) / len(values)), definition)


def measure(
    pictures: Sequence[str],
    photos: Sequence[str],
    styles: Sequence[str],
    side: int = SIDE,
    features: str = DEFAULT_FEATURES,
    device: str = "auto",
) -> Iterator[Score | Failure]:
    """The distances of finished paintings of one photograph in one style."""
    if len(photos) > 1 or len(styles) > 1:
        raise DlkitError(
            f"--picture is for one photograph and one style: here are {len(photos)} and"
            f" {len(styles)}"
        )
    gauge = StyleMetrics(infer.load(features, device), side)
    for label, picture in [(PHOTO, photos[0]), *((picture, picture) for picture in pictures)]:
        yield from measured([Entry(label, photos[0], styles[0], picture)], gauge, [])


def evaluate_checkpoint(files: Sequence[str], model: str = DEFAULT_MODEL) -> Iterator[Score]:
    """The mean distances of one painter: of the photographs in the first of these folders, in the
    styles in the others.
    """
    photos, styles = (list(images.files(part)) for part in (files[:1], files[1:]))
    for score in compare([model], photos, styles):
        if isinstance(score, Failure):
            raise DlkitError(f"{score.path}: {score.error}")
        if score.label == model:
            yield replace(score, label="all")


def write_distances(distances: Sequence[Distance], path: Path) -> None:
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Distance)])
        table.writeheader()
        table.writerows(asdict(distance) for distance in distances)


def sheet(
    methods: Sequence[str], photos: Sequence[str], styles: Sequence[str], entries: Sequence[Entry]
) -> Image.Image:
    """A row for each photograph and method, a column for each style, with these in the margins."""
    files = {(e.method, e.photo, e.style): e.painting for e in entries}
    cells, captions = [shown("")], [""]
    for style in styles:
        cells.append(shown(style))
        captions.append(stem(style))
    for photo in photos:
        for method in methods:
            cells.append(shown(photo))
            captions.append(f"{stem(photo)}, {named(method)}")
            for style in styles:
                cells.append(shown(files.get((method, photo, style), "")))
                captions.append("")
    return images.grid(cells, 1 + len(styles), CELL, captions)
