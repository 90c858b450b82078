"""Instance segmentation of image files.

Shapes: N objects of an image of H x W pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from dlkit.core.failures import Failure, each, next_window
from dlkit.core.io.colors import color
from dlkit.core.io.image_files import files
from dlkit.core.io.results import note_nothing, nothing_above
from dlkit.core.parallel.sharding import Shard
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.core.vision.results import ImageResult
from dlkit.segment import rle
from dlkit.segment.architecture import InstancePrediction
from dlkit.segment.draw import draw_masks, indexed_image
from dlkit.segment.infer import (
    class_indices,
    make_rows,
    process_images,
)
from dlkit.segment.outputs import NO_OUTPUTS, OutputFolders, Outputs
from dlkit.segment.predictor import DEFAULT_OPTIONS, InferOptions, InstancePredictor, resize_maps

MAX_OBJECTS = 100  # per image
LEAST_SCORE = 0.01  # of the best candidate in an image without objects


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
    rle: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def mask(self) -> np.ndarray:
        """The mask (H, W) of its pixels, boolean."""
        return rle.decode(self.rle or {})


@dataclass(frozen=True)
class ImageInstances(ImageResult):
    """The objects of one image, best first."""

    noun: ClassVar = "image"
    units: ClassVar = {"x1": "px", "y1": "px", "x2": "px", "y2": "px"}
    columns: ClassVar = ["path", "label", "score", "fraction", "x1", "y1", "x2", "y2"]

    path: str
    width: int
    height: int
    objects: list[Instance]

    def rows(self) -> list[dict[str, Any]]:
        return make_rows(self.path, self.objects)


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
    options: InferOptions = DEFAULT_OPTIONS,
    classes: Sequence[str] | None = None,
    masks: bool = False,
    folders: OutputFolders = NO_OUTPUTS,
    shard: Shard | None = None,
    show_best: bool = False,
) -> Iterator[ImageInstances | Failure]:
    """The objects in each image, in input order; a Failure for an unreadable one.

    `classes` restricts the results to these; `masks` adds run-length coded masks. NAME.png, whose
    pixels are object ids from 1, and NAME-overlay.jpg are written to the `folders`. Only the
    `shard` of the images is processed; without one, the processes share them. With `show_best`, a
    result without objects has the best candidate in its sentence `nothing`.
    """
    selected = sorted(class_indices(predictor, classes))

    def predict_all(
        inputs: Iterator[str],
    ) -> Iterator[tuple[str, Picture, InstanceMasks] | Failure]:
        for entry in predict_objects(predictor, inputs, options):
            if not isinstance(entry, Failure):
                path, picture, objects = entry
                entry = path, picture, select_labels(objects, selected)
            yield entry

    def draw(original: Picture, objects: InstanceMasks, target: Outputs) -> None:
        save_instances(original, objects, predictor.labels, target)

    def describe(path: str, picture: Picture, objects: InstanceMasks, _: Outputs) -> ImageInstances:
        instances = list(list_instances(objects, predictor.labels, masks))
        result = ImageInstances(path, picture.width, picture.height, instances)
        if show_best and not instances:
            (found,) = predictor.predict([picture.pixels], LEAST_SCORE, MAX_OBJECTS)
            best = best_candidate(found, predictor.labels, selected)
            note_nothing(result, nothing_above(options.threshold, path, best, classes))
        return result

    outputs = folders.name(files(paths))
    return process_images(outputs, predict_all, draw, describe, str(predictor.device), shard)


def best_candidate(
    found: InstancePrediction, names: Sequence[str], selected: Sequence[int]
) -> tuple[str, float] | None:
    """The label and score of the best object (they come best first) of the selected labels."""
    for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True):
        if label in selected:
            return names[label], score
    return None


def predict_objects(
    predictor: InstancePredictor, paths: Iterable[str], options: InferOptions = DEFAULT_OPTIONS
) -> Iterator[tuple[str, Picture, InstanceMasks] | Failure]:
    """Each path with its image and its objects, best first; a Failure for an unreadable image."""
    side = options.image_size or predictor.image_size
    pictures = each(lambda path: (path, images.read(path, side)), paths, options.workers)
    while window := next_window(pictures, options.batch_size):
        batch = [entry[1].pixels for entry in window if not isinstance(entry, Failure)]
        predictions: Iterator[InstancePrediction] = iter(())
        if batch:
            predictions = iter(predictor.predict(batch, options.threshold, MAX_OBJECTS))
        for entry in window:
            if isinstance(entry, Failure):
                yield entry
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


def draw_instances(picture: Image.Image, found: ImageInstances) -> Image.Image:
    """The image with the masks of a result drawn."""
    masks = [instance.mask for instance in found.objects]
    names = [instance.label for instance in found.objects]
    return draw_masks(picture, masks, names, [instance.score for instance in found.objects])


def save_instances(
    picture: Picture, objects: InstanceMasks, names: Sequence[str], target: Outputs
) -> None:
    """Write the object ids, and an overlay of the masks."""
    if target.mask is not None:
        ids = np.zeros((picture.height, picture.width), np.uint8)
        for index in reversed(range(len(objects.masks))):  # the best on top
            ids[objects.masks[index]] = index + 1
        colors = [(0, 0, 0), *(color(index) for index in range(255))]
        images.save(indexed_image(ids, colors), target.mask)
    if target.overlay is not None:
        labels, scores = [names[label] for label in objects.labels], objects.scores.tolist()
        overlay = draw_masks(images.as_pillow(picture), objects.masks, labels, scores)
        images.save(overlay, target.overlay)
