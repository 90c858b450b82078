"""Loading detectors, and detecting the objects of image files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import nn

from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.image_files import files
from dlkit.core.io.results import note_nothing, nothing_above
from dlkit.core.nn.rebuild import restore
from dlkit.core.parallel.device import choose, dtype, tune_malloc
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import weights
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision.results import ImageResult
from dlkit.detect import torchvision_zoo
from dlkit.detect.architecture import detector_network, detector_settings
from dlkit.detect.config import DEFAULT_MODEL, PUBLISHED
from dlkit.detect.draw import draw_boxes
from dlkit.detect.model import build
from dlkit.detect.models.detector import ScoredBoxes
from dlkit.detect.options import DEFAULT_OPTIONS, DetectOptions
from dlkit.detect.predictor import Detector, Predictor, threshold_of


@dataclass(frozen=True)
class Object:
    """A detected object; its box is in pixels of the upright image."""

    label: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class TrackedObject(Object):
    """A detected object with its track number, which is the same in every frame."""

    track: int


@dataclass(frozen=True)
class Detections(ImageResult):
    """The objects of one image, best first."""

    noun: ClassVar = "image"
    units: ClassVar = {"x1": "px", "y1": "px", "x2": "px", "y2": "px"}
    columns: ClassVar = ["path", "label", "score", "x1", "y1", "x2", "y2"]

    path: str
    width: int
    height: int
    objects: list[Object]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **vars(found)} for found in self.objects]


def load(model: str = DEFAULT_MODEL, device: str = "auto", precision: str = "auto") -> Detector:
    """Load the detector of that name, file or URL, prepared for inference on the device."""
    chosen = choose(device)
    tune_malloc()
    path = weights.find("detect", model, PUBLISHED, torchvision_zoo.fetch)
    header, network = restore(path, "detect", build_from, model)
    labels = header.labels
    settings = detector_settings(header)
    outputs = settings.get("num_labels", settings.get("keypoints"))
    if outputs not in {None, len(labels)}:
        raise DlkitError(f"{len(labels)} labels, but not as many outputs", model)
    network.eval().to(chosen).to(memory_format=torch.channels_last)
    prepared = detector_network(network)
    prepared.prepare(dtype(chosen, precision))
    side, draw = int(header.config["image_size"]), Draw.of(header.config)
    return Detector(prepared, header.labels, side, chosen, thresholds=header.thresholds, draw=draw)


def build_from(header: Header) -> nn.Module:
    """The untrained network of a checkpoint."""
    if header.config.get("image_size") is None:
        raise DlkitError("its header has no setting 'image_size'")
    return build(header.arch, **detector_settings(header))


def detect(
    paths: Iterable[str],
    detector: Detector,
    options: DetectOptions = DEFAULT_OPTIONS,
    shard: Shard | None = None,
    show_best: bool = False,
) -> Iterator[Detections | Failure]:
    """Detect the objects in each image, in input order; a Failure for an unreadable image.

    With `shard`, only its share of the images; otherwise they are distributed over the processes.
    With `show_best`, a result without objects has the best candidate in its sentence `nothing`.
    """
    predictor = Predictor(detector, options)

    def results(shared: Iterator[str]) -> Iterator[Detections | Failure]:
        for path, picture, found in predictor.predict(track(shared, "detecting")):
            if isinstance(picture, Failure):
                yield picture
            else:
                objects = name_objects(found, detector.labels)
                detections = Detections(path, picture.width, picture.height, objects)
                if show_best and not objects:
                    best = predictor.best_below(picture)
                    note_nothing(detections, no_objects(path, predictor, best))
                yield detections

    return map_shard(results, files(paths), str(detector.device), shard)


def no_objects(path: str, predictor: Predictor, best: tuple[str, float] | None) -> str:
    """The sentence about an image without objects, with the best candidate."""
    options = predictor.options
    threshold = options.threshold
    if threshold is None or options.thresholds:
        threshold = threshold_of(best[0], predictor.detector, options) if best else None
    return nothing_above(threshold, path, best, options.labels)


def name_objects(found: ScoredBoxes, labels: Sequence[str]) -> list[Object]:
    """Convert boxes to objects with label names and rounded numbers."""
    return [
        Object(labels[label], round(score, 4), *(round(value, 1) for value in box))
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def draw_detections(picture: Image.Image, found: Detections, labels: Sequence[str]) -> Image.Image:
    """A copy of the image with the boxes of its objects drawn."""
    return draw_objects(picture, found.objects, labels)


def draw_objects(
    picture: Image.Image, objects: Sequence[Object], labels: Sequence[str]
) -> Image.Image:
    """A copy of the picture with the objects' boxes drawn; `labels` are all of the model's."""
    corners = [(found.x1, found.y1, found.x2, found.y2) for found in objects]
    scores = [found.score for found in objects]
    tracks = [found.track for found in objects if isinstance(found, TrackedObject)]
    names = [found.label for found in objects]
    return draw_boxes(picture, corners, names, scores, labels, tracks or None)
