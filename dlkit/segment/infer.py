"""Semantic segmentation of image files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from dlkit.core.config import split_names
from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.colors import Color
from dlkit.core.io.files import check_free, whole_file
from dlkit.core.io.image_files import files
from dlkit.core.io.results import note_nothing
from dlkit.core.nn.rebuild import restore
from dlkit.core.parallel.device import choose, dtype, tune_malloc
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import weights
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.core.vision.results import ImageResult
from dlkit.segment import rle, torchvision_zoo
from dlkit.segment.architecture import InstanceNetwork, SemanticNetwork, segmenter_settings
from dlkit.segment.config import DEFAULT_MODEL, PUBLISHED
from dlkit.segment.draw import draw_overlay, indexed_image, palette
from dlkit.segment.masks import BACKGROUND, IGNORED
from dlkit.segment.model import build, find
from dlkit.segment.outputs import NO_OUTPUTS, OutputFolders, Outputs
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
    rle: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def mask(self) -> np.ndarray:
        """The mask (H, W) of its pixels, boolean."""
        return rle.decode(self.rle or {})


@dataclass(frozen=True)
class Segmentation(ImageResult):
    """The classes in one image, largest first."""

    noun: ClassVar = "image"
    units: ClassVar = {"x1": "px", "y1": "px", "x2": "px", "y2": "px"}
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
    draw = Draw.of(header.config)
    settings = (header.labels, image_size, device, palette(header.labels), precision, draw)
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
    folders: OutputFolders = NO_OUTPUTS,
    shard: Shard | None = None,
) -> Iterator[Segmentation | Failure]:
    """The classes in each image, in input order; a Failure for an unreadable one.

    `classes` restricts the results to these; `masks` adds run-length coded masks. NAME.png, the
    label map with a palette, NAME-overlay.jpg and NAME.npz are written to the `folders`. Only the
    `shard` of the images is processed; without one, the processes share them.
    """
    selected = class_indices(predictor, classes)
    overlay_names = [
        label if k in selected and label != BACKGROUND else ""
        for k, label in enumerate(predictor.labels)
    ]

    def predict_all(inputs: Iterator[str]) -> Iterator[tuple[str, Picture, LabelMap] | Failure]:
        return predict(predictor, inputs, options, folders.probabilities is not None)

    def draw(original: Picture, label_map: LabelMap, target: Outputs) -> None:
        save_label_map(original, label_map.labels, predictor.colors, overlay_names, target)

    def describe(path: str, picture: Picture, label_map: LabelMap, target: Outputs) -> Segmentation:
        if target.probabilities is not None and label_map.probabilities is not None:
            save_probabilities(label_map.probabilities, predictor.labels, target.probabilities)
        regions = list_regions(label_map.labels, predictor.labels, selected, masks)
        result = Segmentation(path, picture.width, picture.height, regions)
        if not regions:
            counts = np.bincount(label_map.labels.reshape(-1), minlength=len(predictor.labels))
            largest = predictor.labels[counts.argmax()], counts.max() / counts.sum()
            note_nothing(result, no_regions(path, [predictor.labels[k] for k in selected], largest))
        return result

    outputs = folders.name(files(paths))
    return process_images(outputs, predict_all, draw, describe, str(predictor.device), shard)


def no_regions(path: str, labels: Sequence[str], largest: tuple[str, float]) -> str:
    """The sentence about an image without pixels of these classes, with its largest class."""
    return f"no {' or '.join(labels)} in {path}; largest: {largest[0]} {largest[1]:.2f}"


def process_images(
    inputs: Iterable[tuple[str, Outputs]],
    predict_all: Callable[[Iterator[str]], Iterator[tuple[str, Picture, P] | Failure]],
    draw: Callable[[Picture, P, Outputs], None],
    describe: Callable[[str, Picture, P, Outputs], R],
    device: str,
    shard: Shard | None,
) -> Iterator[R | Failure]:
    """The results of all inputs, in their order; a Failure for an unreadable image.

    `draw` writes pictures with the full-size image, `describe` makes the result. Inputs have
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
            try:
                for file in target.files:
                    check_free(file)
                if target.mask is not None or target.overlay is not None:
                    draw(images.full_size(path, picture), prediction, target)
                result = describe(path, picture, prediction, target)
            except DlkitError as error:  # the image has changed, or a file cannot be written
                yield Failure(path, error.reason_for(path))
                continue
            target.note_saved()
            yield result

    return map_shard(results, inputs, device, shard)


def class_indices(predictor: Predictor[Any], classes: Sequence[str] | None) -> set[int]:
    """The indices of the named classes; of all classes for None."""
    if classes is None:
        return set(range(len(predictor.labels)))
    classes = split_names(classes, predictor.labels)
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


def draw_regions(
    picture: Image.Image, found: Segmentation, colors: Sequence[Color], labels: Sequence[str]
) -> Image.Image:
    """The overlay of a result with masks; `labels` are all of the model's."""
    label_map = np.full((found.height, found.width), IGNORED, np.uint8)
    for region in found.segments:
        label_map[region.mask] = labels.index(region.label)
    return draw_overlay(picture, label_map, colors, labels)


def save_label_map(
    picture: Picture,
    labels: np.ndarray,
    colors: Sequence[Color],
    names: Sequence[str],
    target: Outputs,
) -> None:
    """Write the label map, and the overlay of the classes in `names`."""
    if target.mask is not None:
        images.save(indexed_image(labels, colors), target.mask)
    if target.overlay is not None:
        overlay = draw_overlay(images.as_pillow(picture), labels, colors, names)
        images.save(overlay, target.overlay)


def save_probabilities(probabilities: np.ndarray, names: Sequence[str], target: Path) -> None:
    """Write an NPZ file with `probabilities` (C, H, W) in float16 and `labels`, the class names."""
    with whole_file(target) as partial, partial.open("wb") as file:
        np.savez(file, probabilities=probabilities, labels=np.array(names))
