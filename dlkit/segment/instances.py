"""From image files to objects with their masks: `find_objects()`, for networks that find objects.

Shapes: N objects of an image of H x W pixels.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.parallel import device
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.core.vision.drawing import color
from dlkit.core.vision.images import Picture
from dlkit.segment import rle
from dlkit.segment.draw import draw_masks, index_picture
from dlkit.segment.infer import (
    Predictor,
    Targets,
    chosen_classes,
    full,
    overlay_path,
    resized,
    with_targets,
)
from dlkit.segment.models.torchvision_models import Instances as Found

MOST_OBJECTS = 100  # in an image


@dataclass(frozen=True)
class Instance:
    """One thing found: its share of the image, its box in pixels, and its mask.

    `rle` is COCO's run-length code.
    """

    label: str
    score: float
    fraction: float
    x1: float
    y1: float
    x2: float
    y2: float
    rle: dict[str, Any] | None = None


@dataclass(frozen=True)
class Instances:
    """The objects of one image, best first."""

    columns: ClassVar = ["path", "label", "score", "fraction", "x1", "y1", "x2", "y2"]

    path: str
    width: int
    height: int
    objects: list[Instance]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"path": self.path, **{k: v for k, v in vars(found).items() if k != "rle"}}
            for found in self.objects
        ]


@dataclass(frozen=True)
class Masks:
    """What was found in one image: masks (N, H, W) of bool, labels, scores (N,), boxes (N, 4)."""

    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def find_objects(
    paths: Iterable[str],
    predictor: Predictor,
    threshold: float = 0.5,
    classes: Sequence[str] | None = None,
    masks: bool = False,
    save: Path | None = None,
    image_size: int | None = None,
    batch_size: int = 4,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Instances | Failure]:
    """The objects in each image, in input order; a Failure for one that cannot be read.

    `classes` leaves out all others; `masks` adds run-length coded masks. Into the folder `save`
    go NAME.png, whose pixels are the objects' numbers from 1 on, and NAME-overlay.jpg.
    `image_size` is the longest side that the network sees; None: as trained. Only the `shard` of
    the images is processed; without one, the processes share them.
    """
    wanted = sorted(chosen_classes(predictor, classes))

    def results(named: Iterator[tuple[str, Targets]]) -> Iterator[Instances | Failure]:
        targets: deque[Targets] = deque()

        def shared() -> Iterator[str]:
            for path, target in named:
                targets.append(target)
                yield path

        seen = track(shared(), "segmenting")
        for path, picture, objects in predict_objects(
            predictor, seen, threshold, image_size, batch_size, workers
        ):
            target = targets.popleft()
            if isinstance(picture, Failure):
                yield picture
                continue
            assert objects is not None
            objects = chosen(objects, wanted)
            if target.map is not None:
                try:
                    shown = full(path, picture)
                except DlkitError as error:  # a URL may fail the second time
                    yield Failure(path, str(error))
                    continue
                save_pictures(shown, objects, predictor.labels, target.map)
            listed = list(instances_of(objects, predictor.labels, masks))
            yield Instances(path, picture.width, picture.height, listed)

    # Named before they are shared, so that all processes agree on the names.
    named = with_targets(images.files(paths), save, None)
    return map_shard(results, named, str(predictor.device), shard)


def predict_objects(
    predictor: Predictor,
    paths: Iterable[str],
    threshold: float,
    image_size: int | None = None,
    batch_size: int = 4,
    workers: int = 2,
) -> Iterator[tuple[str, Picture | Failure, Masks | None]]:
    """Each path with its picture (or Failure) and its objects, best first."""
    side = image_size or predictor.image_size
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    while window := list(islice(pictures, batch_size)):
        batch = [entry[1].pixels for entry in window if not isinstance(entry, Failure)]
        found: Iterator[Found] = iter(())
        if batch:
            with torch.inference_mode(), device.autocast(predictor.device, predictor.autocast):
                found = iter(predictor.network.predict(batch, threshold, MOST_OBJECTS))
        for entry in window:
            if isinstance(entry, Failure):
                yield entry.path, entry, None
            else:
                yield *entry, as_shown(next(found), entry[1])


@torch.inference_mode()
def as_shown(found: Found, picture: Picture) -> Masks:
    """What the network found in its pixels (N, h, w), in those of the image as shown."""
    size = (picture.height, picture.width)
    full_masks = np.zeros((len(found.masks), *size), bool)
    for target, mask in zip(full_masks, found.masks, strict=True):
        target[:] = (resized(mask[None, None].float(), size)[0, 0] >= 0.5).cpu().numpy()
    scale = torch.tensor([size[1], size[0]] * 2) / torch.tensor([*picture.pixels.shape[:0:-1]] * 2)
    boxes = found.boxes.cpu() * scale
    return Masks(full_masks, found.labels.cpu().numpy(), found.scores.cpu().numpy(), boxes.numpy())


def chosen(found: Masks, wanted: Sequence[int]) -> Masks:
    kept = np.isin(found.labels, wanted)
    return Masks(found.masks[kept], found.labels[kept], found.scores[kept], found.boxes[kept])


def instances_of(found: Masks, names: Sequence[str], masks: bool) -> Iterator[Instance]:
    """The objects with their labels' names, rounded to what is meaningful."""
    for mask, label, score, box in zip(
        found.masks, found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
    ):
        x1, y1, x2, y2 = (round(side, 1) for side in box)
        share = round(float(mask.mean()), 5)
        code = rle.encode(mask) if masks else None
        yield Instance(names[label], round(score, 4), share, x1, y1, x2, y2, code)


def save_pictures(picture: Picture, found: Masks, names: Sequence[str], target: Path) -> None:
    """Write the objects' numbers to `target`, and beside it the picture with their masks."""
    numbers = np.zeros((picture.height, picture.width), np.uint8)
    for number in reversed(range(len(found.masks))):  # the best on top
        numbers[found.masks[number]] = number + 1
    colors = [(0, 0, 0), *(color(number) for number in range(255))]
    images.save(index_picture(numbers, colors), target)
    labels = [names[label] for label in found.labels]
    drawn = draw_masks(images.as_pillow(picture), found.masks, labels, found.scores.tolist())
    images.save(drawn, overlay_path(target))
