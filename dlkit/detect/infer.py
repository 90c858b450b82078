"""From image files to objects: `detect()`, and what evaluation and training share with it."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from dlkit.core import checkpoint, device, distributed, images, weights
from dlkit.core.distributed import Process
from dlkit.core.errors import DlkitError
from dlkit.core.images import Picture
from dlkit.core.output import FileNames, picture_suffix
from dlkit.core.progress import Failure, each, is_main_process, track
from dlkit.detect import published
from dlkit.detect.boxes import Suppression
from dlkit.detect.config import DEFAULT_MODEL, PUBLISHED
from dlkit.detect.data import GREY
from dlkit.detect.draw import draw_boxes
from dlkit.detect.model import build
from dlkit.detect.models.detector import Found

MOST_DETECTIONS = 1000  # in an image, before labels are chosen
PLAIN = Suppression()
WINDOW = 8  # batches among which images of one shape are looked for


@dataclass(frozen=True)
class Object:
    """One thing found: its box in pixels of the image as shown."""

    label: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


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


@dataclass(frozen=True)
class Detector:
    """A network ready to predict, and what belongs to it."""

    network: Any  # one of model.ARCHITECTURES
    labels: list[str]
    image_size: int
    device: torch.device
    autocast: str = "fp32"  # in training, whose weights stay fp32; prepared ones need none


def load(
    model: str = DEFAULT_MODEL, device_name: str = "auto", precision: str = "auto"
) -> Detector:
    """The detector of that name, file or URL, in its inference form on the device."""
    chosen = device.choose(device_name)
    device.keep_freed_memory()
    if model in PUBLISHED:
        path = published.fetch(model)
    else:
        path = weights.find("detect", model, PUBLISHED)
    header, tensors = checkpoint.load(path, "detect")
    try:
        network = build(header.arch, **header.settings)
        network.load_state_dict(tensors)
        image_size = int(header.config["image_size"])
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise DlkitError(
            f"{model}: its weights or settings do not fit the architecture {header.arch};"
            f" it was made by dlkit {header.dlkit}"
        ) from error
    network.eval().to(chosen).to(memory_format=torch.channels_last)
    network.prepare(device.dtype(chosen, precision))
    return Detector(network, header.labels, image_size, chosen)


def detect(
    paths: Iterable[str],
    detector: Detector,
    threshold: float = 0.3,
    suppression: Suppression = PLAIN,
    labels: list[str] | None = None,
    max_detections: int = 100,
    image_size: int | None = None,
    batch_size: int = 16,
    workers: int = 2,
) -> Iterator[Detections | Failure]:
    """The objects in each image, in input order; a Failure for one that cannot be read.

    `labels` leaves out all other objects; `image_size` is the longest side the network sees, by
    default the one it was trained on. Under torchrun the processes share the images.
    """
    wanted = set(range(len(detector.labels)) if labels is None else chosen_labels(detector, labels))

    def results(process: Process) -> Iterator[Detections | Failure]:
        shared = track(process.share(images.files(paths)), "detecting")
        side = image_size or detector.image_size
        # Objects of other labels must not take the places of the wanted ones.
        limit = max_detections if labels is None else MOST_DETECTIONS
        for path, picture, found in predict(
            detector, shared, threshold, suppression, limit, side, batch_size, workers
        ):
            if isinstance(picture, Failure):
                yield picture
            else:
                objects = named(found, detector.labels, wanted)[:max_detections]
                yield Detections(path, picture.width, picture.height, objects)

    def gathered() -> Iterator[Detections | Failure]:
        with distributed.launch(str(detector.device)) as process:
            yield from process.gather(results(process))

    return gathered()


def chosen_labels(detector: Detector, labels: list[str]) -> list[int]:
    unknown = [label for label in labels if label not in detector.labels]
    if unknown:
        raise DlkitError(
            f"the model knows no {', '.join(unknown)}: its labels are {', '.join(detector.labels)}"
        )
    return [detector.labels.index(label) for label in labels]


def named(found: Found, labels: list[str], wanted: Container[int]) -> list[Object]:
    """The objects with their labels' names, rounded to what is meaningful."""
    return [
        Object(labels[label], round(score, 4), *(round(value, 1) for value in box))
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
        if label in wanted
    ]


def predict(
    detector: Detector,
    paths: Iterable[str],
    threshold: float,
    suppression: Suppression,
    limit: int,
    side: int,
    batch_size: int = 16,
    workers: int = 2,
) -> Iterator[tuple[str, Picture | Failure, Found]]:
    """Each path with its picture (or Failure) and what was found, in order.

    Images are decoded ahead in threads, and run in batches of equal shape; boxes are in pixels
    of the image as shown.
    """
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    while window := list(islice(pictures, WINDOW * batch_size)):
        found: dict[int, Found] = {}
        shapes: dict[tuple[int, int], list[int]] = {}
        for index, entry in enumerate(window):
            if not isinstance(entry, Failure):
                shapes.setdefault(padded_shape(entry[1].pixels), []).append(index)
        for shape, members in shapes.items():
            for start in range(0, len(members), batch_size):
                batch = members[start : start + batch_size]
                chosen = [window[index][1] for index in batch]  # type: ignore[index]
                found.update(
                    zip(
                        batch,
                        predict_batch(detector, chosen, shape, threshold, suppression, limit),
                        strict=True,
                    )
                )
        for index, entry in enumerate(window):
            if isinstance(entry, Failure):
                yield entry.path, entry, NOTHING
            else:
                yield *entry, found[index]


NOTHING = Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))


def padded_shape(pixels: Tensor) -> tuple[int, int]:
    """Height and width rounded up to what the network's strides divide."""
    return -(-pixels.shape[1] // 32) * 32, -(-pixels.shape[2] // 32) * 32


def predict_batch(
    detector: Detector,
    pictures: list[Picture],
    shape: tuple[int, int],
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> list[Found]:
    """What is found in pictures padded to one shape, on the CPU, in the pixels of each as shown."""
    batch = torch.full((len(pictures), *shape, 3), GREY, dtype=torch.uint8).permute(0, 3, 1, 2)
    for canvas, picture in zip(batch, pictures, strict=True):
        canvas[:, : picture.pixels.shape[1], : picture.pixels.shape[2]] = picture.pixels
    with torch.inference_mode(), device.autocast(detector.device, detector.autocast):
        results = detector.network.predict(batch.to(detector.device), threshold, suppression, limit)
    return [
        shown(Found(*(tensor.cpu() for tensor in found)), picture)
        for found, picture in zip(results, pictures, strict=True)
    ]


def shown(found: Found, picture: Picture) -> Found:
    """The boxes scaled from the network's pixels to the image's, and cut at its border."""
    size = torch.tensor([picture.width, picture.height] * 2)
    given = torch.tensor([picture.pixels.shape[2], picture.pixels.shape[1]] * 2)
    boxes = (found.boxes.float() * size / given).clamp(min=0)
    return Found(torch.minimum(boxes, size), found.scores.float(), found.labels)


def save_pictures(
    results: Iterable[Detections | Failure], folder: Path, labels: Sequence[str]
) -> Iterator[Detections | Failure]:
    """The results unchanged, while each image is written to `folder` with its boxes drawn."""
    names = FileNames(folder)
    for result in results:
        if isinstance(result, Detections) and is_main_process():
            path = names.path_for(result.path, picture_suffix(result.path))
            try:
                picture = images.as_pillow(images.read(result.path))
            except DlkitError as error:  # a URL may fail the second time
                yield Failure(result.path, str(error))
                continue
            found = result.objects
            corners = [(o.x1, o.y1, o.x2, o.y2) for o in found]
            scores = [o.score for o in found]
            drawn = draw_boxes(picture, corners, [o.label for o in found], scores, labels)
            images.save(drawn, path)
        yield result
