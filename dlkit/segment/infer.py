"""Semantic segmentation of image files; `predict()` also serves evaluation and training.

Shapes: B images, C classes, H x W pixels of the image, h x w of the network's input. A label map
holds the class index of each pixel.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.io.files import FileNames, whole_file
from dlkit.core.nn.rebuild import restore
from dlkit.core.parallel.device import autocast, choose, tune_malloc
from dlkit.core.parallel.device import dtype as dtype_for
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import weights
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.core.vision.batches import WINDOW, group_by_shape, next_window
from dlkit.core.vision.drawing import Color
from dlkit.core.vision.images import Picture
from dlkit.core.vision.tile import in_tiles
from dlkit.segment import rle, torchvision_zoo
from dlkit.segment.architecture import InstanceNetwork, InstancePrediction, SemanticNetwork
from dlkit.segment.config import DEFAULT_MODEL, PUBLISHED
from dlkit.segment.draw import draw_overlay, indexed_image, palette
from dlkit.segment.model import build, find

N = TypeVar("N")
SCALES = (0.75, 1.0, 1.25)  # of the views that --tta averages, each also mirrored
STRIP_PIXELS = 1_000_000  # of a large image that are classified at once


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
        return [
            {"path": self.path, **{k: v for k, v in vars(region).items() if k != "rle"}}
            for region in self.segments
        ]


@dataclass(frozen=True)
class LabelMap:
    """The prediction for one image: labels (H, W), and optionally probabilities (C, H, W)."""

    labels: np.ndarray  # uint8
    probabilities: np.ndarray | None = None  # float16


@dataclass(frozen=True)
class InferOptions:
    """Inference options.

    `image_size` is the longest side of the network's input; None: as in training, or full
    resolution in tiles. `tile` is the side of the tiles; None: whole images. `tta` averages
    several views.
    """

    image_size: int | None = None
    tile: int | None = None
    tta: bool = False
    batch_size: int = 4
    workers: int = 2


@dataclass(frozen=True)
class Predictor(Generic[N]):
    """A segmentation network ready for inference, with its labels and input size."""

    network: N
    labels: list[str]
    image_size: int | None
    device: torch.device
    colors: list[Color]
    autocast: str = "fp32"  # precision during training, whose weights stay fp32


class InstancePredictor(Predictor[InstanceNetwork]):
    """An instance segmentation network ready for inference."""

    @torch.inference_mode()
    def predict(
        self, batch: list[Tensor], threshold: float, limit: int
    ) -> list[InstancePrediction]:
        """The objects in uint8 images (3, h, w) that score at least `threshold`, best first."""
        with autocast(self.device, self.autocast):
            return self.network.predict(batch, threshold, limit)


class SemanticPredictor(Predictor[SemanticNetwork]):
    """A semantic segmentation network ready for inference."""

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (B, C, h, w) of uint8 images (B, 3, h, w)."""
        return self.forward(self.network.normalize(pixels.to(self.device)))

    @torch.inference_mode()
    def probabilities(self, pixels: Tensor, tta: bool) -> Tensor:
        """Probabilities (B, C, h, w) of uint8 images (B, 3, h, w); `tta` averages several views."""
        inputs = self.network.normalize(pixels.to(self.device))
        if not tta:
            return self.forward(inputs).softmax(dim=1)
        size = inputs.shape[-2:]
        total = torch.zeros((), device=self.device)
        for scale in SCALES:
            scaled_size = tuple(max(images.MIN_SIDE, round(scale * side)) for side in size)
            scaled = resize_maps(inputs, scaled_size)
            for view in (self.forward(scaled), self.forward(scaled.flip(3)).flip(3)):
                total = total + resize_maps(view, size).softmax(dim=1)
        return total / (2 * len(SCALES))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, C, h, w) of normalized images (B, 3, h, w)."""
        with autocast(self.device, self.autocast):
            logits: Tensor = self.network(inputs)
        return logits


def resize_maps(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear resizing of maps (B, K, h, w)."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def load(
    model: str = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> SemanticPredictor | InstancePredictor:
    """Load a segmenter by name, file or URL and prepare it for inference on the device."""
    target = choose(device)
    tune_malloc()
    path = weights.find("segment", model, PUBLISHED, torchvision_zoo.fetch)
    header, network = restore(path, "segment", build_network, model)
    if "image_size" not in header.config:
        raise DlkitError("its header has no setting 'image_size'", model)
    network.eval().to(target).to(memory_format=torch.channels_last)
    predictor = make_predictor(network, header, header.config["image_size"], target)
    predictor.network.prepare(dtype_for(target, precision))
    return predictor


def build_network(header: Header) -> nn.Module:
    """The untrained network that a header describes."""
    network: nn.Module = build(header.arch, len(header.labels), **header.settings)
    return network


def make_predictor(
    network: nn.Module,
    header: Header,
    image_size: int | None,
    target: torch.device,
    precision: str = "fp32",
) -> SemanticPredictor | InstancePredictor:
    """The predictor of a network that is on its device, by the kind of its architecture."""
    settings = (header.labels, image_size, target, palette(len(header.labels)), precision)
    if find(header.arch).instances:
        assert isinstance(network, InstanceNetwork)
        return InstancePredictor(network, *settings)
    assert isinstance(network, SemanticNetwork)
    return SemanticPredictor(network, *settings)


def segment(
    paths: Iterable[str],
    predictor: SemanticPredictor,
    options: InferOptions = InferOptions(),
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

    def results(inputs: Iterator[tuple[str, OutputFiles]]) -> Iterator[Segmentation | Failure]:
        pending: deque[OutputFiles] = deque()

        def input_paths() -> Iterator[str]:
            for path, target in inputs:
                pending.append(target)
                yield path

        for path, picture, label_map in predict(
            predictor, track(input_paths(), "segmenting"), options, probabilities is not None
        ):
            target = pending.popleft()
            if isinstance(picture, Failure):
                yield picture
                continue
            assert label_map is not None
            if target.map is not None:
                try:
                    original = full_size(path, picture)
                except DlkitError as error:  # a URL may fail the second time
                    yield Failure(path, str(error))
                    continue
                save_label_map(
                    original, label_map.labels, predictor.colors, overlay_names, target.map
                )
            if target.probabilities is not None and label_map.probabilities is not None:
                save_probabilities(label_map.probabilities, predictor.labels, target.probabilities)
            regions = list_regions(label_map.labels, predictor.labels, selected, masks)
            yield Segmentation(path, picture.width, picture.height, regions)

    # File names are chosen before the images are shared, so that all processes agree on them.
    inputs = name_outputs(images.files(paths), save, probabilities)
    return map_shard(results, inputs, str(predictor.device), shard)


@dataclass(frozen=True)
class OutputFiles:
    """The files to write for one image."""

    map: Path | None
    probabilities: Path | None


def name_outputs(
    paths: Iterable[str], save: Path | None, probabilities: Path | None
) -> Iterator[tuple[str, OutputFiles]]:
    """Each path with the files to write for it."""
    maps = None if save is None else FileNames(save)
    arrays = None if probabilities is None else FileNames(probabilities)
    for path in paths:
        yield (
            path,
            OutputFiles(
                None if maps is None else maps.path_for(path, ".png"),
                None if arrays is None else arrays.path_for(path, ".npz"),
            ),
        )


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


def predict(
    predictor: SemanticPredictor,
    paths: Iterable[str],
    options: InferOptions = InferOptions(),
    probabilities: bool = False,
) -> Iterator[tuple[str, Picture | Failure, LabelMap | None]]:
    """Each path with its image (or Failure) and label map, in order.

    Images are decoded ahead in threads and processed in batches of equal shape; with tiles, one by
    one.
    """
    side = options.image_size or (predictor.image_size if options.tile is None else None)
    workers = 0 if options.tile is not None else options.workers
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    while window := next_window(pictures, 1 if options.tile else WINDOW * options.batch_size):
        label_maps: dict[int, LabelMap] = {}
        for members in group_by_shape(window, options.batch_size):
            batch = [window[index][1] for index in members]  # type: ignore[index]
            maps = predict_batch(predictor, batch, options, probabilities)
            label_maps.update(zip(members, maps, strict=True))
        for index, entry in enumerate(window):
            if isinstance(entry, Failure):
                yield entry.path, entry, None
            else:
                yield *entry, label_maps.pop(index)


def predict_batch(
    predictor: SemanticPredictor,
    pictures: Sequence[Picture],
    options: InferOptions,
    probabilities: bool,
) -> list[LabelMap]:
    """The label maps of images of one shape, each at its original size."""
    if options.tile is not None:
        (picture,) = pictures
        strips = in_tiles(
            lambda part: predictor.probabilities(part, options.tta),
            picture.pixels,
            options.tile,
            predictor.network.stride,
        )
        if picture.pixels.shape[1:] != (picture.height, picture.width):
            strips = upsample_strips(torch.cat(list(strips), dim=1), picture.height, picture.width)
        return [make_label_map(strips, picture, probabilities)]
    batch = torch.stack([picture.pixels for picture in pictures])
    if probabilities or options.tta:
        scores = predictor.probabilities(batch, options.tta)
    else:
        scores = predictor.logits(batch)
    return [
        make_label_map(upsample_strips(own, picture.height, picture.width), picture, probabilities)
        for own, picture in zip(scores, pictures, strict=True)
    ]


@torch.inference_mode()
def make_label_map(strips: Iterator[Tensor], picture: Picture, probabilities: bool) -> LabelMap:
    """The highest-scoring class of each pixel, from strips (C, rows, W) from the top down."""
    labels = np.empty((picture.height, picture.width), np.uint8)
    all_scores: np.ndarray | None = None
    top = 0
    for strip in strips:
        below = top + strip.shape[1]
        # max is several times as fast as argmax over the first dimension.
        labels[top:below] = strip.max(dim=0).indices.to(torch.uint8).cpu().numpy()
        if probabilities:
            if all_scores is None:
                all_scores = np.empty((len(strip), *labels.shape), np.float16)
            all_scores[:, top:below] = strip.half().cpu().numpy()
        top = below
    return LabelMap(labels, all_scores)


@torch.inference_mode()
def upsample_strips(scores: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """Bilinear resizing of scores (C, h, w), in strips (C, rows, width) from the top down."""
    if scores.shape[1:] == (height, width):
        yield scores
        return
    last = scores.shape[1] - 1
    positions = ((torch.arange(height) + 0.5) * (last + 1) / height - 0.5).clamp(0, last)
    positions = positions.to(scores.device)
    above = positions.long()
    fraction = (positions - above)[:, None]
    for rows in torch.arange(height, device=scores.device).split(max(1, STRIP_PIXELS // width)):
        upper, lower = scores[:, above[rows]], scores[:, (above[rows] + 1).clamp(max=last)]
        strip = torch.lerp(upper, lower, fraction[rows])
        yield resize_maps(strip[None], (len(rows), width))[0]


def full_size(path: str, picture: Picture) -> Picture:
    """The image at its original size, read again if it was resized."""
    if picture.pixels.shape[1:] == (picture.height, picture.width):
        return picture
    return images.read(path)


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
