"""Distances of paintings from their photographs and styles, to compare methods."""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import check_free_in, draw_beside, note_saved, whole_file
from dlkit.core.io.image_files import files
from dlkit.core.io.scores import Score, rounded
from dlkit.core.progress import log
from dlkit.style_transfer import apply, infer
from dlkit.style_transfer.config import DEFAULT_FEATURES
from dlkit.style_transfer.contact_sheet import Cell, save_sheet
from dlkit.style_transfer.infer import PaintOptions, read, read_style, resize
from dlkit.style_transfer.loss import content_loss, gram, style_loss
from dlkit.style_transfer.models.features import FeatureNetwork
from dlkit.style_transfer.optimize import Objective
from dlkit.style_transfer.plan import (
    Style,
    check_targets,
    note_paintings,
    plan_paintings,
    stem,
)

GATYS = "gatys"
TABLE, SHEET = "distances.csv", "sheet.jpg"  # files of --save
PHOTO = "photo"  # the method that leaves photographs unchanged
SIDE, STEPS = 256, 300
DEFINITIONS = {
    "content_distance": "Mean squared difference from the photograph's feature maps, on the layers"
    " {content}; mean over the paintings.",
    "style_distance": "Mean squared difference from the style's Gram matrices (means over"
    " positions), weighted mean over the layers {style}; mean over the paintings.",
}


@dataclass(frozen=True)
class Distance:
    """The content and style distance of one painting."""

    method: str
    path: str
    style: str
    content_distance: float | None
    style_distance: float | None


class StyleMetrics:
    """Measures paintings at one size, in the layers of the default `Objective`."""

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
        """The content and style distance of a painting, resized to the photograph's size."""
        objective = self.objective
        content = read(photo)
        size = infer.working_size(content.shape[2], content.shape[1], self.side)
        targets = self.maps(resize(content, size), list(objective.content_layers))
        strokes = self.maps(read_style(style, self.side), list(objective.style_layers))
        grams = {name: gram(maps) for name, maps in strokes.items()}
        maps = self.maps(
            resize(read(painting), size), [*objective.content_layers, *objective.style_layers]
        )
        return (
            float(content_loss(maps, targets, objective.content_layers)),
            float(style_loss(maps, grams, objective.style_layers)),
        )

    def maps(self, picture: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.network(picture[None].to(self.network.mean.device), layers)
        return maps


@dataclass(frozen=True)
class EvaluatedPainting:
    """The file of a painting, with its method, photograph and style."""

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
    URL; the unchanged photographs come first. A painter of fixed styles skips the others. `save` is
    a folder for the paintings, a contact sheet and the distances of each painting.
    """
    if len(set(methods)) < len(methods):
        raise DlkitError(f"--model {', '.join(methods)}: a method is repeated; give each once")
    if len({display_name(method) for method in methods}) < len(methods):
        raise DlkitError(f"--model {', '.join(methods)}: two methods share a name; rename a file")
    check_free_in(save, TABLE, SHEET)
    metrics = StyleMetrics(infer.load(features, device), side)
    networks = {
        name: method_network(name, metrics, device) for name in methods if is_optimization(name)
    }
    painters = {
        name: apply.load(name, device, precision) for name in methods if name not in networks
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if save is None else save
        entries = [
            EvaluatedPainting(PHOTO, photo, style, photo) for photo in photos for style in styles
        ]
        distances: list[Distance] = []
        yield from measure_paintings(entries, metrics, distances)
        for method in methods:
            target = folder / display_name(method)
            if method in networks:
                planned = plan_paintings(photos, [(Style(name),) for name in styles], target)
                check_targets(planned)
                how = PaintOptions(size=side, steps=steps, as_painted=True, precision=precision)
                results: Iterator[Any] = infer.paint(
                    planned, networks[method], metrics.objective, how
                )
            else:
                groups = known_styles(painters[method], styles)
                planned = plan_paintings(photos, groups, target)
                check_targets(planned)
                results = apply.apply(
                    planned, groups, painters[method], apply.ApplyOptions(size=side)
                )
            own: list[EvaluatedPainting] = []
            for result in note_paintings(results) if save is not None else results:
                if isinstance(result, Failure):
                    yield result
                else:
                    own.append(EvaluatedPainting(method, result.path, result.style, result.output))
            yield from measure_paintings(own, metrics, distances)
            entries += own
        if save is not None and is_main_process():
            write_distances(distances, save / TABLE)
            columns = [Cell(style, stem(style)) for style in styles]
            rows = method_rows(methods, photos, styles, entries)
            note_saved(save / TABLE)
            path = save / SHEET
            yield from draw_beside(path, save_sheet, columns, rows, path)


def is_optimization(method: str) -> bool:
    """Whether a method is painting by optimization, with any feature network."""
    return method.partition(":")[0] == GATYS


def method_network(method: str, metrics: StyleMetrics, device: str) -> FeatureNetwork:
    """The feature network of `gatys:NETWORK`; for `gatys`, the one that measures."""
    name = method.partition(":")[2]
    return infer.load(name, device) if name else metrics.network


def display_name(method: str) -> str:
    """The name of a method in file names and captions."""
    kind, _, network = method.partition(":")
    if network and is_optimization(method):
        return f"{kind}-{stem(network)}".replace(":", "-")
    return stem(method)


def known_styles(painter: apply.Stylizer, styles: Sequence[str]) -> list[tuple[Style, ...]]:
    """The styles that a painter supports; logs the others as skipped."""
    groups: list[tuple[Style, ...]] = []
    for name in styles:
        if not painter.styles or apply.style_index(painter, name) is not None:
            groups.append((Style(name),))
        else:
            log(f"skipped {stem(name)}: {painter.name} was not trained on it")
    if not groups:
        raise DlkitError(
            f"{painter.name} supports none of these styles; choose from {', '.join(painter.styles)}"
        )
    return groups


def measure_paintings(
    entries: Sequence[EvaluatedPainting], metrics: StyleMetrics, distances: list[Distance]
) -> Iterator[Score | Failure]:
    """The mean distances of a method's paintings; appends those of each to `distances`."""
    own = []
    for entry in entries:
        try:
            found = metrics.distances(entry.photo, entry.style, entry.painting)
        except DlkitError as error:
            yield Failure(entry.painting, error.reason_for(entry.painting))
            continue
        own.append(Distance(entry.method, entry.photo, entry.style, *map(rounded, found)))
    distances += own
    if own:
        yield from mean_scores(own[0].method, own, metrics)


def mean_scores(
    label: str, distances: Sequence[Distance], metrics: StyleMetrics
) -> Iterator[Score]:
    for name, definition in metrics.definitions.items():
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
    """The distances of existing paintings of one photograph in one style."""
    if len(photos) > 1 or len(styles) > 1:
        raise DlkitError(
            f"--picture is for one photograph and one style; give fewer than {len(photos)} and"
            f" {len(styles)}"
        )
    metrics = StyleMetrics(infer.load(features, device), side)
    for label, picture in [(PHOTO, photos[0]), *((picture, picture) for picture in pictures)]:
        yield from measure_paintings(
            [EvaluatedPainting(label, photos[0], styles[0], picture)], metrics, []
        )


def evaluate_checkpoint(
    data: Sequence[str],
    split: str,
    model: str,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Score]:
    """The mean distances of a painter: photographs of the first folder, styles of the others.

    The data has no splits; `split` and `workers` have no effect.
    """
    photos, styles = (list(files(part)) for part in (data[:1], data[1:]))
    for score in compare([model], photos, styles, save=save, device=device, precision=precision):
        if isinstance(score, Failure):
            raise DlkitError(score.error, score.path)
        if score.label == model:
            yield replace(score, label="all")


def write_distances(distances: Sequence[Distance], path: Path) -> None:
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Distance)])
        table.writeheader()
        table.writerows(asdict(distance) for distance in distances)


def method_rows(
    methods: Sequence[str],
    photos: Sequence[str],
    styles: Sequence[str],
    entries: Sequence[EvaluatedPainting],
) -> list[tuple[Cell, list[str]]]:
    """The rows of a contact sheet: each photograph with the paintings of each method."""
    outputs = {(e.method, e.photo, e.style): e.painting for e in entries}
    return [
        (
            Cell(photo, f"{stem(photo)}, {display_name(method)}"),
            [outputs.get((method, photo, style), "") for style in styles],
        )
        for photo in photos
        for method in methods
    ]
