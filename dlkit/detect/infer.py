"""Loading detectors, and detecting the objects of image files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from PIL import Image
from torch import nn

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, picture_suffix
from dlkit.core.io.image_files import files
from dlkit.core.nn.rebuild import restore
from dlkit.core.parallel.device import choose, dtype, tune_malloc
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import weights
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.detect import torchvision_zoo
from dlkit.detect.architecture import detector_network, detector_settings
from dlkit.detect.config import DEFAULT_MODEL, PUBLISHED
from dlkit.detect.draw import draw_boxes
from dlkit.detect.model import build
from dlkit.detect.models.detector import ScoredBoxes
from dlkit.detect.options import DEFAULT_OPTIONS, DetectOptions
from dlkit.detect.predictor import Detector, Predictor


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
class Detections:
    """The objects of one image, best first."""

    columns: ClassVar = ["path", "label", "score", "x1", "y1", "x2", "y2"]

    path: str
    width: int
    height: int
    objects: list[Object]

    def rows(self) -> list[dict[str, Any]]:
        return [{"path": self.path, **vars(found)} for found in self.objects]


class HasPath(Protocol):
    """Any result for one image."""

    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=HasPath)


def load(model: str = DEFAULT_MODEL, device: str = "auto", precision: str = "auto") -> Detector:
    """Load the detector of that name, file or URL, prepared for inference on the device."""
    chosen = choose(device)
    tune_malloc()
    path = weights.find("detect", model, PUBLISHED, torchvision_zoo.fetch)
    header, network = restore(path, "detect", build_from, model)
    network.eval().to(chosen).to(memory_format=torch.channels_last)
    prepared = detector_network(network)
    prepared.prepare(dtype(chosen, precision))
    return Detector(prepared, header.labels, int(header.config["image_size"]), chosen)


def build_from(header: Header) -> nn.Module:
    """The untrained network of a checkpoint."""
    _ = header.config["image_size"]  # of a trained network; a KeyError is reported by `restore`
    return build(header.arch, **detector_settings(header))


def detect(
    paths: Iterable[str],
    detector: Detector,
    options: DetectOptions = DEFAULT_OPTIONS,
    shard: Shard | None = None,
) -> Iterator[Detections | Failure]:
    """Detect the objects in each image, in input order; a Failure for an unreadable image.

    With `shard`, only its share of the images; otherwise they are distributed over the processes.
    """
    predictor = Predictor(detector, options)

    def results(shared: Iterator[str]) -> Iterator[Detections | Failure]:
        for path, picture, found in predictor.predict(track(shared, "detecting")):
            if isinstance(picture, Failure):
                yield picture
            else:
                objects = name_objects(found, detector.labels)
                yield Detections(path, picture.width, picture.height, objects)

    return map_shard(results, files(paths), str(detector.device), shard)


def name_objects(found: ScoredBoxes, labels: Sequence[str]) -> list[Object]:
    """Convert boxes to objects with label names and rounded numbers."""
    return [
        Object(labels[label], round(score, 4), *(round(value, 1) for value in box))
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def with_pictures(
    results: Iterable[R | Failure], use: Callable[[Image.Image, R], None]
) -> Iterator[R | Failure]:
    """Yield the results unchanged, and call `use` with each image at full size and its result."""
    for result in results:
        if not isinstance(result, Failure) and is_main_process():
            try:
                picture = images.as_pillow(images.read(result.path))
            except DlkitError as error:  # a URL may fail the second time
                yield Failure(result.path, error.reason_for(result.path))
                continue
            use(picture, result)
        yield result


def save_pictures(
    results: Iterable[R | Failure],
    names: FileNames,
    draw: Callable[[Image.Image, R], Image.Image],
) -> Iterator[R | Failure]:
    """Yield the results unchanged, and save each image with its result drawn into it."""

    def save(picture: Image.Image, result: R) -> None:
        path = names.path_for(result.path, picture_suffix(result.path))
        images.save(draw(picture, result), path)

    return with_pictures(results, save)


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
