"""How objects are looked for in pictures: what every use of a detector shares."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.parallel import device
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.detect import tta
from dlkit.detect.boxes import Suppression
from dlkit.detect.models.detector import GRAY, Found

MOST_DETECTIONS = 1000  # in an image, before those that are not wanted are left out
WINDOW = 8  # batches among which images of one shape are looked for
LEAST_OF_A_VIEW = 0.01  # the score below which augmentation does not look at the objects of a view


@dataclass(frozen=True)
class Detector:
    """A network ready to predict, and what belongs to it."""

    network: Any  # one of model.ARCHITECTURES
    labels: list[str]
    image_size: int
    device: torch.device
    autocast: str = "fp32"  # in training, whose weights stay fp32; prepared ones need none


@dataclass(frozen=True)
class Method:
    """How objects are looked for.

    Objects that score below `threshold` are left out, or below that of their label in `thresholds`;
    `labels` leaves out all others. `image_size` is the longest side the network sees; None: as
    trained. `tile` is the side of tiles, which the network sees in that size, beside the image as a
    whole; None: the image as a whole. `tta` fuses what several views show.
    """

    threshold: float = 0.3
    thresholds: Mapping[str, float] = field(default_factory=dict)
    suppression: Suppression = Suppression()
    labels: Sequence[str] | None = None
    max_detections: int = 100
    image_size: int | None = None
    tile: int | None = None
    tta: bool = False
    batch_size: int = 16
    workers: int = 2


PLAIN = Method()


class Predictor:
    """Finds the objects of pictures with a detector, by a method."""

    def __init__(self, detector: Detector, method: Method) -> None:
        self.detector, self.method = detector, method
        self.side = method.image_size or detector.image_size
        self.least = least_scores(detector, method)
        # The network's own threshold and limit; objects that are not wanted must not take the
        # places of those that are.
        self.threshold = float(self.least.min())
        self.limit = method.max_detections
        if (self.least > self.threshold).any():
            self.limit = max(MOST_DETECTIONS, method.max_detections)
        if method.tta:
            # What one view finds counts for its share only.
            self.threshold = min(self.threshold, max(LEAST_OF_A_VIEW, self.threshold / 4))

    def predict(self, paths: Iterable[str]) -> Iterator[tuple[str, Picture | Failure, Found]]:
        """Each path with its picture (or Failure) and what was found, in order.

        Images are decoded ahead in threads, and run in batches of equal shape, those in tiles one
        by one; boxes are in pixels of the image as shown.
        """
        method = self.method
        side = None if method.tile else round(self.side * max(tta.SCALES if method.tta else [1]))
        workers = 0 if method.tile else method.workers
        pictures = each(lambda path: (path, images.read(path, side)), paths, workers)
        while window := list(islice(pictures, 1 if method.tile else WINDOW * method.batch_size)):
            read = [entry[1] for entry in window if not isinstance(entry, Failure)]
            found = iter(self.find(read))
            for entry in window:
                if isinstance(entry, Failure):
                    yield entry.path, entry, NOTHING
                else:
                    yield *entry, next(found)

    def find(self, pictures: Sequence[Picture]) -> list[Found]:
        """What is found in each picture, of any sizes, in pixels of each as shown."""
        if self.method.tile:
            nms = self.method.suppression
            found = [
                tta.in_tiles(p, self.method.tile, self.look, nms.iou, self.limit, nms.agnostic)
                for p in pictures
            ]
        else:
            found = self.look(pictures)
        return [self.wanted(own) for own in found]

    def look(self, pictures: Sequence[Picture]) -> list[Found]:
        """What is found in each picture without tiles, of all labels."""
        if self.method.tta:
            agnostic = self.method.suppression.agnostic
            return tta.augmented(pictures, self.side, self.in_batches, self.limit, agnostic)
        return self.in_batches([images.resized(picture, self.side) for picture in pictures])

    def in_batches(self, pictures: Sequence[Picture]) -> list[Found]:
        """What the network finds in pictures of the sizes they have."""
        found: dict[int, Found] = {}
        shapes: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(pictures):
            shapes.setdefault(padded_shape(picture.pixels), []).append(index)
        size = self.method.batch_size
        for shape, members in shapes.items():
            for batch in (members[start : start + size] for start in range(0, len(members), size)):
                chosen = [pictures[index] for index in batch]
                nms = self.method.suppression
                results = predict_batch(
                    self.detector, chosen, shape, self.threshold, nms, self.limit
                )
                found.update(zip(batch, results, strict=True))
        return [found[index] for index in range(len(pictures))]

    def wanted(self, found: Found) -> Found:
        """The objects that the method asks for."""
        kept = (found.scores >= self.least[found.labels]).nonzero().flatten()
        return Found(*(tensor[kept[: self.method.max_detections]] for tensor in found))


def thresholds_of(text: str) -> tuple[float, dict[str, float]]:
    """The threshold of all labels and those of single ones, from `0.4`, `cat=0.5` or both.

    Raises DlkitError for what is no score, and for two scores of one label.
    """
    own: dict[str, float] = {}
    for part in text.split(","):
        label, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            score = float(number)
        except ValueError:
            score = -1.0
        if not 0 <= score <= 1 or label in own or (equals and not label):
            raise DlkitError(
                f"--threshold {text}: give a score from 0 to 1, or scores of labels, each once, as"
                " in cat=0.5,dog=0.3"
            )
        own[label] = score
    return own.pop("", PLAIN.threshold), own


def least_scores(detector: Detector, method: Method) -> Tensor:
    """The least score (C,) of each label: 2, which is out of reach, for those not wanted.

    Raises DlkitError for labels that the detector does not know.
    """
    named_labels = [*(method.labels or []), *method.thresholds]
    unknown = [label for label in named_labels if label not in detector.labels]
    if unknown:
        raise DlkitError(
            f"the model knows no {', '.join(map(repr, unknown))}: its labels are"
            f" {', '.join(detector.labels)}"
        )
    return torch.tensor(
        [
            method.thresholds.get(label, method.threshold)
            if method.labels is None or label in method.labels
            else 2.0
            for label in detector.labels
        ]
    )


NOTHING = Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))


def padded_shape(pixels: Tensor) -> tuple[int, int]:
    """Height and width rounded up to what the network's strides divide."""
    return -(-pixels.shape[1] // 32) * 32, -(-pixels.shape[2] // 32) * 32


def as_batch(pictures: Sequence[Picture], shape: tuple[int, int]) -> Tensor:
    """The pictures as one batch (B, 3, *shape), each in the upper left of a gray image."""
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
) -> list[Found]:
    """What is found in pictures padded to one shape, on the CPU, in the pixels of each as shown."""
    batch = as_batch(pictures, shape)
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
