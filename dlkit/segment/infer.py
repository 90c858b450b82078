"""Semantic segmentation of image files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, whole_file
from dlkit.core.io.image_files import files
from dlkit.core.nn.rebuild import restore
from dlkit.core.parallel.device import choose, dtype, tune_malloc
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import weights
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.core.vision.drawing import Color
from dlkit.core.vision.images import Picture
from dlkit.segment import rle, torchvision_zoo
from dlkit.segment.architecture import InstanceNetwork, SemanticNetwork, segmenter_settings
from dlkit.segment.config import DEFAULT_MODEL, PUBLISHED
from dlkit.segment.draw import draw_overlay, indexed_image, palette
from dlkit.segment.model import build, find
from dlkit.segment.predictor import (
    DEFAULT_OPTIONS,
    InferOptions,
    InstancePredictor,
    LabelMap,
    Predictor,
    SemanticPredictor,
    predict,
)

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Region:
    """All pixels of one class: their fraction of the image, bounding box and mask.

    The box is in pixels of the upright image, x2 and y2 exclusive; `rle` is COCO's run-length code.
    """

    label: str
    fraction: float
    x1: int
    y1: int
    x2: int
    y2: int
    rle: dict[str, Any] | None = None


@dataclass(frozen=True)
class Segmentation:
    """The classes in one image, largest first."""

    columns: ClassVar = ["path", "label", "fraction", "x1", "y1", "x2", "y2"]

    path: str
    width: int
    height: int
    segments: list[Region]

    def rows(self) -> list[dict[str, Any]]:
        return make_rows(self.path, self.segments)


def make_rows(path: str, parts: Iterable[object]) -> list[dict[str, Any]]:
    """A row for each region or object of an image, without its mask."""
    return [{"path": path, **{k: v for k, v in vars(p).items() if k != "rle"}} for p in parts]


def load(
    model: str = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> SemanticPredictor | InstancePredictor:
    """Load a segmenter by name, file or URL and prepare it for inference on the device."""
    on = choose(device)
    tune_malloc()
    path = weights.find("segment", model, PUBLISHED, torchvision_zoo.fetch)
    header, network = restore(path, "segment", build_network, model)
    if "image_size" not in header.config:
        raise DlkitError("its header has no setting 'image_size'", model)
    network.eval().to(on).to(memory_format=torch.channels_last)
    predictor = make_predictor(network, header, header.config["image_size"], on)
    predictor.network.prepare(dtype(on, precision))
    return predictor


def build_network(header: Header) -> nn.Module:
    """The untrained network that a header describes."""
    network: nn.Module = build(header.arch, len(header.labels), **segmenter_settings(header))
    return network


def make_predictor(
    network: nn.Module,
    header: Header,
    image_size: int | None,
    device: torch.device,
    precision: str = "fp32",
) -> SemanticPredictor | InstancePredictor:
    """The predictor of a network that is on its device, by the kind of its architecture."""
    settings = (header.labels, image_size, device, palette(len(header.labels)), precision)
    if find(header.arch).instances:
        assert isinstance(network, InstanceNetwork)
        return InstancePredictor(network, *settings)
    assert isinstance(network, SemanticNetwork)
    return SemanticPredictor(network, *settings)


def segment(
    paths: Iterable[str],
    predictor: SemanticPredictor,
    options: InferOptions = DEFAULT_OPTIONS,
    classes: Sequence[str] | None = None,
    masks: bool = False,
    save: Path | None = None,
    probabilities: Path | None = None,
    shard: Shard | None = None,
) -> Iterator[Segmentation | Failure]:
    """The classes in each image, in input order; a Failure for an unreadable one.

    `classes` restricts the results to these; `masks` adds run-length coded masks. NAME.png, the
    label map with a palette, and NAME-overlay.jpg are written to the folder `save`, NAME.npz to
    `probabilities`. Only the `shard` of the images is processed; without one, the processes share
    them.
    """
    selected = class_indices(predictor, classes)
    overlay_names = [label if k in selected else "" for k, label in enumerate(predictor.labels)]

    def predict_all(inputs: Iterator[str]) -> Iterator[tuple[str, Picture, LabelMap] | Failure]:
        return predict(predictor, inputs, options, probabilities is not None)

    def draw(original: Picture, label_map: LabelMap, target: Path) -> None:
        save_label_map(original, label_map.labels, predictor.colors, overlay_names, target)

    def describe(path: str, picture: Picture, label_map: LabelMap, target: Outputs) -> Segmentation:
        if target.probabilities is not None and label_map.probabilities is not None:
            save_probabilities(label_map.probabilities, predictor.labels, target.probabilities)
        regions = list_regions(label_map.labels, predictor.labels, selected, masks)
        return Segmentation(path, picture.width, picture.height, regions)

    outputs = name_outputs(files(paths), save, probabilities)
    return process_images(outputs, predict_all, draw, describe, str(predictor.device), shard)


@dataclass(frozen=True)
class Outputs:
    """The files to write for one image."""

    map: Path | None
    probabilities: Path | None


def name_outputs(
    paths: Iterable[str], save: Path | None, probabilities: Path | None
) -> Iterator[tuple[str, Outputs]]:
    """Each path with the files to write for it."""
    maps = None if save is None else FileNames(save)
    arrays = None if probabilities is None else FileNames(probabilities)
    for path in paths:
        label_map = None if maps is None else maps.path_for(path, ".png")
        array = None if arrays is None else arrays.path_for(path, ".npz")
        yield path, Outputs(label_map, array)


def process_images(
    inputs: Iterable[tuple[str, Outputs]],
    predict_all: Callable[[Iterator[str]], Iterator[tuple[str, Picture, P] | Failure]],
    draw: Callable[[Picture, P, Path], None],
    describe: Callable[[str, Picture, P, Outputs], R],
    device: str,
    shard: Shard | None,
) -> Iterator[R | Failure]:
    """The results of all inputs, in their order; a Failure for an unreadable image.

    `draw` writes the label map with the full-size picture, `describe` makes the result. Inputs have
    their file names before the processes share them, so that all agree on the names.
    """

    def results(own: Iterator[tuple[str, Outputs]]) -> Iterator[R | Failure]:
        pending: deque[Outputs] = deque()

        def input_paths() -> Iterator[str]:
            for path, target in own:
                pending.append(target)
                yield path

        for entry in predict_all(track(input_paths(), "segmenting")):
            target = pending.popleft()
            if isinstance(entry, Failure):
                yield entry
                continue
            path, picture, prediction = entry
            if target.map is not None:
                try:
                    original = images.full_size(path, picture)
                except DlkitError as error:  # the file was removed or changed in the meantime
                    yield Failure(path, error.reason_for(path))
                    continue
                draw(original, prediction, target.map)
            yield describe(path, picture, prediction, target)

    return map_shard(results, inputs, device, shard)


def class_indices(predictor: Predictor[Any], classes: Sequence[str] | None) -> set[int]:
    """The indices of the named classes; of all classes for None."""
    if classes is None:
        return set(range(len(predictor.labels)))
    unknown = [name for name in classes if name not in predictor.labels]
    if unknown:
        raise DlkitError(
            f"--classes: unknown class {', '.join(unknown)}; choose from"
            f" {', '.join(predictor.labels)}"
        )
    return {predictor.labels.index(name) for name in classes}


def list_regions(
    labels: np.ndarray, names: Sequence[str], selected: set[int], masks: bool
) -> list[Region]:
    """The selected classes in a label map, largest first."""
    counts = np.bincount(labels.reshape(-1), minlength=len(names))
    regions = []
    for k in np.argsort(-counts, kind="stable").tolist():
        if counts[k] and k in selected:
            mask = labels == k
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            regions.append(
                Region(
                    names[k],
                    round(float(counts[k]) / labels.size, 5),
                    int(columns[0]),
                    int(rows[0]),
                    int(columns[-1]) + 1,
                    int(rows[-1]) + 1,
                    rle.encode(mask) if masks else None,
                )
            )
    return regions


def save_label_map(
    picture: Picture,
    labels: np.ndarray,
    colors: Sequence[Color],
    names: Sequence[str],
    target: Path,
) -> None:
    """Write the label map to `target` and the overlay of the classes in `names` beside it."""
    images.save(indexed_image(labels, colors), target)
    overlay = draw_overlay(images.as_pillow(picture), labels, colors, names)
    images.save(overlay, overlay_path(target))


def overlay_path(target: Path) -> Path:
    """The path of the overlay of a label map."""
    return target.with_name(f"{target.stem}-overlay.jpg")


def save_probabilities(probabilities: np.ndarray, names: Sequence[str], target: Path) -> None:
    """Write an NPZ file with `probabilities` (C, H, W) in float16 and `labels`, the class names."""
    with whole_file(target) as partial, partial.open("wb") as file:
        np.savez(file, probabilities=probabilities, labels=np.array(names))
