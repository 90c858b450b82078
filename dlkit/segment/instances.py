"""Instance segmentation of image files.

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
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.vision import images
from dlkit.core.vision.drawing import color
from dlkit.core.vision.images import Picture
from dlkit.segment import rle
from dlkit.segment.architecture import InstancePrediction
from dlkit.segment.draw import draw_masks, indexed_image
from dlkit.segment.infer import (
    InstancePredictor,
    OutputFiles,
    class_indices,
    full_size,
    name_outputs,
    overlay_path,
    resize_maps,
)

MAX_OBJECTS = 100  # per image


@dataclass(frozen=True)
class Instance:
    """One object: its fraction of the image, its box in pixels, and its mask.

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
class ImageInstances:
    """The objects of one image, best first."""

    columns: ClassVar = ["path", "label", "score", "fraction", "x1", "y1", "x2", "y2"]

    path: str
    width: int
    height: int
    objects: list[Instance]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"path": self.path, **{k: v for k, v in vars(instance).items() if k != "rle"}}
            for instance in self.objects
        ]


@dataclass(frozen=True)
class InstanceMasks:
    """The objects of one image: boolean masks (N, H, W), labels, scores (N,), boxes (N, 4)."""

    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def find_objects(
    paths: Iterable[str],
    predictor: InstancePredictor,
    threshold: float = 0.5,
    classes: Sequence[str] | None = None,
    masks: bool = False,
    save: Path | None = None,
    image_size: int | None = None,
    batch_size: int = 4,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[ImageInstances | Failure]:
    """The objects in each image, in input order; a Failure for an unreadable one.

    `classes` restricts the results to these; `masks` adds run-length coded masks. NAME.png, whose
    pixels are object ids from 1, and NAME-overlay.jpg are written to the folder `save`.
    `image_size` is the longest side of the network's input; None: as in training. Only the
    `shard` of the images is processed; without one, the processes share them.
    """
    selected = sorted(class_indices(predictor, classes))

    def results(inputs: Iterator[tuple[str, OutputFiles]]) -> Iterator[ImageInstances | Failure]:
        pending: deque[OutputFiles] = deque()

        def input_paths() -> Iterator[str]:
            for path, target in inputs:
                pending.append(target)
                yield path

        tracked = track(input_paths(), "segmenting")
        for path, picture, objects in predict_objects(
            predictor, tracked, threshold, image_size, batch_size, workers
        ):
            target = pending.popleft()
            if isinstance(picture, Failure):
                yield picture
                continue
            assert objects is not None
            objects = select_labels(objects, selected)
            if target.map is not None:
                try:
                    original = full_size(path, picture)
                except DlkitError as error:  # a URL may fail the second time
                    yield Failure(path, str(error))
                    continue
                save_instances(original, objects, predictor.labels, target.map)
            instances = list(list_instances(objects, predictor.labels, masks))
            yield ImageInstances(path, picture.width, picture.height, instances)

    # File names are chosen before the images are shared, so that all processes agree on them.
    inputs = name_outputs(images.files(paths), save, None)
    return map_shard(results, inputs, str(predictor.device), shard)


def predict_objects(
    predictor: InstancePredictor,
    paths: Iterable[str],
    threshold: float,
    image_size: int | None = None,
    batch_size: int = 4,
    workers: int = 2,
) -> Iterator[tuple[str, Picture | Failure, InstanceMasks | None]]:
    """Each path with its image (or Failure) and its objects, best first."""
    side = image_size or predictor.image_size
    pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
    while window := list(islice(pictures, batch_size)):
        batch = [entry[1].pixels for entry in window if not isinstance(entry, Failure)]
        predictions: Iterator[InstancePrediction] = iter(())
        if batch:
            predictions = iter(predictor.predict(batch, threshold, MAX_OBJECTS))
        for entry in window:
            if isinstance(entry, Failure):
                yield entry.path, entry, None
            else:
                yield *entry, to_image_size(next(predictions), entry[1])


@torch.inference_mode()
def to_image_size(prediction: InstancePrediction, picture: Picture) -> InstanceMasks:
    """Resize masks (N, h, w) and boxes from the network's input to the original image."""
    size = (picture.height, picture.width)
    masks = np.zeros((len(prediction.masks), *size), bool)
    for target, mask in zip(masks, prediction.masks, strict=True):
        target[:] = (resize_maps(mask[None, None].float(), size)[0, 0] >= 0.5).cpu().numpy()
    scale = torch.tensor([size[1], size[0]] * 2) / torch.tensor([*picture.pixels.shape[:0:-1]] * 2)
    boxes = prediction.boxes.cpu() * scale
    labels, scores = prediction.labels.cpu().numpy(), prediction.scores.cpu().numpy()
    return InstanceMasks(masks, labels, scores, boxes.numpy())


def select_labels(objects: InstanceMasks, labels: Sequence[int]) -> InstanceMasks:
    """The objects with one of these labels."""
    kept = np.isin(objects.labels, labels)
    return InstanceMasks(
        objects.masks[kept], objects.labels[kept], objects.scores[kept], objects.boxes[kept]
    )


def list_instances(objects: InstanceMasks, names: Sequence[str], masks: bool) -> Iterator[Instance]:
    """The objects with their label names, rounded to significant digits."""
    for mask, label, score, box in zip(
        objects.masks,
        objects.labels.tolist(),
        objects.scores.tolist(),
        objects.boxes.tolist(),
        strict=True,
    ):
        x1, y1, x2, y2 = (round(side, 1) for side in box)
        fraction = round(float(mask.mean()), 5)
        code = rle.encode(mask) if masks else None
        yield Instance(names[label], round(score, 4), fraction, x1, y1, x2, y2, code)


def save_instances(
    picture: Picture, objects: InstanceMasks, names: Sequence[str], target: Path
) -> None:
    """Write the object ids to `target` and an overlay of the masks beside it."""
    ids = np.zeros((picture.height, picture.width), np.uint8)
    for index in reversed(range(len(objects.masks))):  # the best on top
        ids[objects.masks[index]] = index + 1
    colors = [(0, 0, 0), *(color(index) for index in range(255))]
    images.save(indexed_image(ids, colors), target)
    labels = [names[label] for label in objects.labels]
    drawn = draw_masks(images.as_pillow(picture), objects.masks, labels, objects.scores.tolist())
    images.save(drawn, overlay_path(target))
