"""Batched prediction of objects in pictures, with tiles and test-time augmentation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dlkit.core.config import split_names
from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.parallel import device
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.detect import tta
from dlkit.detect.architecture import DetectorNetwork
from dlkit.detect.models.detector import GRAY, ScoredBoxes
from dlkit.detect.options import DEFAULT_THRESHOLD, DetectOptions, Suppression

MAX_DETECTIONS = 1000  # per image, before filtering by labels and their thresholds
WINDOW = 8  # batches of images that are read ahead and grouped by shape
BATCH_PIXELS = 16_000_000  # in a batch, at most: feature maps need hundreds of bytes for each
LEAST_SCORE = 0.01  # of the best candidate in a picture without objects
MIN_VIEW_SCORE = 0.01  # least score of an object in one view of test-time augmentation


@dataclass(frozen=True)
class Detector:
    """A network ready to predict, with its labels, image size and device.

    `thresholds` are the least scores of labels that its training chose. `draw` is how it drew a
    val split, if the data had none.
    """

    network: DetectorNetwork
    labels: list[str]
    image_size: int
    device: torch.device
    autocast: str = "fp32"  # in training; prepared networks need none
    thresholds: Mapping[str, float] = field(default_factory=dict)
    draw: Draw = Draw()


class Predictor:
    """Predicts the objects of pictures with a detector."""

    def __init__(self, detector: Detector, options: DetectOptions) -> None:
        if options.labels is not None:
            options = replace(options, labels=split_names(options.labels, detector.labels))
        self.detector, self.options = detector, options
        self.side = options.image_size or detector.image_size
        self.min_scores = min_scores(detector, options)
        # Of the network; boxes that are filtered later must not displace others.
        self.threshold = float(self.min_scores.min())
        self.limit = options.max_detections
        if (self.min_scores > self.threshold).any():
            self.limit = max(MAX_DETECTIONS, options.max_detections)
        if options.tta:
            # Fusion divides the score of an object by the number of views.
            self.threshold = min(self.threshold, max(MIN_VIEW_SCORE, self.threshold / 4))

    def predict(self, paths: Iterable[str]) -> Iterator[tuple[str, Picture | Failure, ScoredBoxes]]:
        """Yield each path with its picture or Failure and its boxes, in order.

        Images are decoded ahead in threads and processed in batches of equal shape, with tiles one
        by one; boxes are in pixels of the upright image.
        """
        options = self.options
        side = None if options.tile else round(self.side * max(tta.SCALES if options.tta else [1]))
        workers = 0 if options.tile else options.workers
        pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
        while window := next_window(pictures, 1 if options.tile else WINDOW * options.batch_size):
            read = [entry[1] for entry in window if not isinstance(entry, Failure)]
            found = iter(self.predict_pictures(read))
            for entry in window:
                if isinstance(entry, Failure):
                    yield entry.path, entry, NO_OBJECTS
                else:
                    yield *entry, next(found)

    def predict_pictures(self, pictures: Sequence[Picture]) -> list[ScoredBoxes]:
        """The boxes of each picture, of any sizes, in pixels of the upright image."""
        if self.options.tile:
            nms = self.options.suppression
            found = [
                tta.predict_tiles(
                    p, self.options.tile, self.predict_untiled, nms.iou, self.limit, nms.agnostic
                )
                for p in pictures
            ]
        else:
            found = self.predict_untiled(pictures)
        return [self.filter_boxes(own) for own in found]

    def best_below(self, picture: Picture) -> tuple[str, float] | None:
        """The label and score of the best candidate in a picture, however low; None without any."""
        options = replace(self.options, threshold=LEAST_SCORE, thresholds={}, max_detections=1)
        (found,) = Predictor(self.detector, options).predict_pictures([picture])
        for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True):
            return self.detector.labels[label], score
        return None

    def predict_untiled(self, pictures: Sequence[Picture]) -> list[ScoredBoxes]:
        """The boxes of each picture without tiles, of all labels."""
        if self.options.tta:
            agnostic = self.options.suppression.agnostic
            return tta.predict_augmented(
                pictures, self.side, self.predict_batches, self.limit, agnostic
            )
        return self.predict_batches([images.resized(picture, self.side) for picture in pictures])

    def predict_batches(self, pictures: Sequence[Picture]) -> list[ScoredBoxes]:
        """The network's boxes of pictures at their sizes."""
        found: dict[int, ScoredBoxes] = {}
        shapes: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(pictures):
            shapes.setdefault(padded_shape(picture.pixels), []).append(index)
        for shape, members in shapes.items():
            size = max(1, min(self.options.batch_size, BATCH_PIXELS // (shape[0] * shape[1])))
            for batch in (members[start : start + size] for start in range(0, len(members), size)):
                chosen = [pictures[index] for index in batch]
                nms = self.options.suppression
                results = predict_batch(
                    self.detector, chosen, shape, self.threshold, nms, self.limit
                )
                found.update(zip(batch, results, strict=True))
        return [found[index] for index in range(len(pictures))]

    def filter_boxes(self, found: ScoredBoxes) -> ScoredBoxes:
        """The boxes that pass the thresholds, at most `max_detections`."""
        kept = (found.scores >= self.min_scores[found.labels]).nonzero().flatten()
        return ScoredBoxes(*(tensor[kept[: self.options.max_detections]] for tensor in found))


def min_scores(detector: Detector, options: DetectOptions) -> Tensor:
    """The least score (C,) of each label; 2, which no score reaches, for labels not requested.

    Raises DlkitError for labels that the detector does not have.
    """
    named_labels = [*(options.labels or []), *options.thresholds]
    unknown = [label for label in named_labels if label not in detector.labels]
    if unknown:
        raise DlkitError(
            f"the model has no label {', '.join(map(repr, unknown))}; choose from"
            f" {', '.join(detector.labels)}"
        )
    return torch.tensor(
        [
            threshold_of(label, detector, options)
            if options.labels is None or label in options.labels
            else 2.0
            for label in detector.labels
        ]
    )


def threshold_of(label: str, detector: Detector, options: DetectOptions) -> float:
    """The least score of objects of this label."""
    if label in options.thresholds:
        return options.thresholds[label]
    if options.threshold is not None:
        return options.threshold
    return detector.thresholds.get(label, DEFAULT_THRESHOLD)


NO_OBJECTS = ScoredBoxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))


def padded_shape(pixels: Tensor) -> tuple[int, int]:
    """Height and width rounded up to multiples of the largest stride."""
    return -(-pixels.shape[1] // 32) * 32, -(-pixels.shape[2] // 32) * 32


def pad_batch(pictures: Sequence[Picture], shape: tuple[int, int]) -> Tensor:
    """One batch (B, 3, *shape) of pictures, padded with gray on the right and below."""
    batch = torch.full((len(pictures), *shape, 3), GRAY, dtype=torch.uint8).permute(0, 3, 1, 2)
    for canvas, picture in zip(batch, pictures, strict=True):
        canvas[:, : picture.pixels.shape[1], : picture.pixels.shape[2]] = picture.pixels
    return batch


def predict_batch(
    detector: Detector,
    pictures: list[Picture],
    shape: tuple[int, int],
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> list[ScoredBoxes]:
    """Detections for a padded batch, on the CPU, in each image's own coordinates."""
    batch = pad_batch(pictures, shape)
    with torch.inference_mode(), device.autocast(detector.device, detector.autocast):
        results = detector.network.predict(batch.to(detector.device), threshold, suppression, limit)
    return [
        to_image_pixels(ScoredBoxes(*(tensor.cpu() for tensor in found)), picture)
        for found, picture in zip(results, pictures, strict=True)
    ]


def to_image_pixels(found: ScoredBoxes, picture: Picture) -> ScoredBoxes:
    """Scale boxes from the network's pixels to the image's, and clip them at its border.

    The corners of a network that predicts them freely are ordered; boxes outside the image, and
    those of numbers that are not finite, are dropped.
    """
    size = torch.tensor([picture.width, picture.height] * 2)
    network_size = torch.tensor([picture.pixels.shape[2], picture.pixels.shape[1]] * 2)
    boxes = (found.boxes.float() * size / network_size).clamp(min=0)
    first, second = boxes[:, :2], boxes[:, 2:]
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    boxes = torch.minimum(torch.cat([low, high], dim=1), size)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # false for NaN
    return ScoredBoxes(boxes[kept], found.scores.float()[kept], found.labels[kept])
