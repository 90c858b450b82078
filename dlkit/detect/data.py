"""Augmented training images with their boxes, and batches of them."""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists, whole_file
from dlkit.core.ledger import Ledger
from dlkit.core.nn.padding import padded_tensors
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.layouts import BoxSample, ImageFile
from dlkit.detect.models.detector import GRAY

PROPOSED = -1  # the label of a proposal among objects
MAX_CACHED_BYTES = 4_000_000_000  # bytes of decoded training images that are kept
MAX_PASTED, MIN_PASTED_SIDE = 3, 8  # objects a picture, pixels a side
NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)

P = TypeVar("P", bound=ImageFile)


class CanvasDataset(Dataset[tuple[Tensor, ...]], Generic[P]):
    """Image files that are pasted onto canvases of one size; cached in memory if they fit.

    Damaged images are counted in the ledger.
    """

    kind: ClassVar[str] = "images"  # of thing that a damaged image drops from the ledger

    def __init__(
        self, samples: list[P], config: DetectTrainConfig, ledger: Ledger | None = None
    ) -> None:
        self.samples, self.config = samples, config
        self.ledger = ledger or Ledger()
        self.cache: list[np.ndarray | None] = []
        if len(samples) * config.image_size**2 * 3 <= MAX_CACHED_BYTES:
            with ThreadPoolExecutor() as pool:
                self.cache = list(track(pool.map(self.decode, samples), "reading", len(samples)))

    def read(self, sample: P) -> Picture:
        """The picture of a sample at the training size."""
        return images.read(str(sample.path), self.config.image_size)

    def decode(self, sample: P) -> np.ndarray | None:
        """Pixels (h, w, 3) scaled to the training size; None for a damaged image."""
        try:
            pixels = self.read(sample).pixels
        except DlkitError as error:
            log(f"skipped {sample.path}: {error}")
            self.ledger.drop(self.kind, error.reason, str(sample.path))
            return None
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, index: int) -> np.ndarray | None:
        """The decoded pixels of an image, from the cache if it is in use."""
        return self.cache[index] if self.cache else self.decode(self.samples[index])

    def paste_image(
        self, canvas: Image.Image, region: tuple[int, int, int, int], index: int, zoom: float
    ) -> np.ndarray | None:
        """Paste an image, zoomed and shifted at random, into a region; None for a damaged one.

        Returns a matrix (2, 2) of scales and offsets that map pixels of the file to pixels of the
        canvas. `zoom` 1 fits the longest side to the canvas; the aspect ratio varies a little.
        """
        pixels, sample = self.pixels(index), self.samples[index]
        if pixels is None:
            return None
        image = Image.fromarray(pixels)
        x1, y1, x2, y2 = region
        zoom *= self.config.image_size / max(image.size)
        stretch = random.uniform(0.9, 1.11) ** 0.5
        sizes, offsets, crop, target = [], [], [], []
        for length, room, scale in zip(
            image.size, (x2 - x1, y2 - y1), (zoom * stretch, zoom / stretch), strict=True
        ):
            whole = max(1, round(length * scale))
            shift = round(random.uniform(0, room - whole))  # negative when the image is larger
            sizes.append(whole)
            offsets.append(shift)
            low, high = max(0, -shift), min(whole, room - shift)
            crop.append((low * length / whole, high * length / whole))
            target.append((max(0, shift), high - low))
        box = (crop[0][0], crop[1][0], crop[0][1], crop[1][1])
        part = image.resize((target[0][1], target[1][1]), Image.Resampling.BILINEAR, box)
        canvas.paste(part, (x1 + target[0][0], y1 + target[1][0]))
        return np.array(
            [
                [sizes[0] / sample.width, sizes[1] / sample.height],
                [offsets[0] + x1, offsets[1] + y1],
            ]
        )

    def jitter_color(self, canvas: Image.Image) -> np.ndarray:
        """The canvas's pixels (S, S, 3) with random color jitter."""
        return np.array(canvas.point(self.color_table()) if self.config.color_jitter else canvas)

    def color_table(self) -> list[int]:
        """A lookup table of 256 values per channel: random brightness, contrast and color cast."""
        share = self.config.color_jitter
        contrast, brightness = (1 + random.uniform(-share, share) for _ in range(2))
        values = np.arange(256)
        table = []
        for _ in range(3):
            cast = brightness * (1 + random.uniform(-share, share) / 3)
            table += list(((values * cast - 128) * contrast + 128).clip(0, 255).astype(int))
        return table


def gray_canvas(side: int) -> Image.Image:
    """A gray canvas."""
    return Image.new("RGB", (side, side), (GRAY, GRAY, GRAY))


class DetectionDataset(CanvasDataset[BoxSample]):
    """Augmented training images of one size: image (3, S, S), boxes (N, 4), labels (N,).

    With `proposals` of each sample, in pixels of its file, samples end with proposals (P, 4).
    """

    def __init__(
        self,
        samples: list[BoxSample],
        config: DetectTrainConfig,
        proposals: list[np.ndarray] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        super().__init__(samples, config, ledger)
        self.proposals = proposals
        self.mosaic, self.copy_paste = config.mosaic, config.copy_paste

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        side = self.config.image_size
        canvas = gray_canvas(side)
        if random.random() < self.mosaic:
            x, y = (int(side * random.uniform(0.3, 0.7)) for _ in range(2))
            regions = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
            others = random.choices(range(len(self)), k=3)
            placed = [
                self.place_image(canvas, region, i, random.uniform(0.35, 1.0))
                for region, i in zip(regions, [index, *others], strict=True)
            ]
        else:
            zoom = self.config.zoom ** random.uniform(-1, 1)
            placed = [self.place_image(canvas, (0, 0, side, side), index, zoom)]
        boxes = np.concatenate([boxes for boxes, _ in placed])
        labels = np.concatenate([labels for _, labels in placed])
        if self.copy_paste and random.random() < self.copy_paste:
            for _ in range(random.randint(1, MAX_PASTED)):
                boxes, labels = self.paste_object(canvas, boxes, labels)
        pixels = self.jitter_color(canvas)
        if random.random() < self.config.flip:
            pixels = pixels[:, ::-1]
            boxes = np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], 1)
        if random.random() < self.config.flip_vertical:
            pixels = pixels[::-1]
            boxes = np.stack([boxes[:, 0], side - boxes[:, 3], boxes[:, 2], side - boxes[:, 1]], 1)
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        objects = labels != PROPOSED
        parts = [image, torch.from_numpy(boxes[objects]), torch.from_numpy(labels[objects])]
        if self.proposals is not None:
            parts.append(torch.from_numpy(boxes[~objects]))
        return tuple(parts)

    def whole_image(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """An image (3, h, w) without augmentation, its boxes, labels and proposals.

        None for a damaged image.
        """
        pixels, sample = self.pixels(index), self.samples[index]
        if pixels is None or self.proposals is None:
            return None
        height, width, _ = pixels.shape
        share = np.array([width / sample.width, height / sample.height] * 2, dtype=np.float32)
        return (
            torch.from_numpy(pixels.transpose(2, 0, 1)),
            torch.from_numpy(sample.boxes[~sample.crowd] * share),
            torch.from_numpy(sample.labels[~sample.crowd]),
            torch.from_numpy(self.proposals[index] * share),
        )

    def place_image(
        self, canvas: Image.Image, region: tuple[int, int, int, int], index: int, zoom: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste an image into a region of the canvas; returns its boxes and labels there."""
        transform = self.paste_image(canvas, region, index, zoom)
        if transform is None:
            return NO_BOXES, NO_LABELS
        sample = self.samples[index]
        boxes, labels = sample.boxes[~sample.crowd], sample.labels[~sample.crowd]
        if self.proposals is not None:  # they move with the objects
            boxes = np.concatenate([boxes, self.proposals[index]])
            labels = np.concatenate([labels, np.full(len(self.proposals[index]), PROPOSED)])
        scale, offset = np.tile(transform, 2).astype(np.float32)
        return clip_boxes(boxes * scale + offset, labels, region)

    def paste_object(
        self, canvas: Image.Image, boxes: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste a random object of the data set; returns the boxes and labels that stay visible.

        After Dwibedi et al. 2017. Only the object's box is known, so the pasted box has soft edges
        and may contain other objects. Boxes that are covered by more than half are removed.
        """
        index, side = random.randrange(len(self)), self.config.image_size
        pixels, sample = self.pixels(index), self.samples[index]
        choices = np.flatnonzero(~sample.crowd).tolist()
        if pixels is None or not choices:
            return boxes, labels
        chosen = random.choice(choices)
        x1, y1, x2, y2 = sample.boxes[chosen].tolist()
        zoom = side / max(sample.width, sample.height) * self.config.zoom ** random.uniform(-1, 1)
        width, height = round((x2 - x1) * zoom), round((y2 - y1) * zoom)
        if min(width, height) < MIN_PASTED_SIDE or max(width, height) > side:
            return boxes, labels
        share = pixels.shape[1] / sample.width, pixels.shape[0] / sample.height
        box = (x1 * share[0], y1 * share[1], x2 * share[0], y2 * share[1])
        part = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, box)
        x, y = random.randint(0, side - width), random.randint(0, side - height)
        canvas.paste(part, (x, y), soft_edges(width, height))

        new = np.array([x, y, x + width, y + height], dtype=np.float32)
        common = np.minimum(boxes[:, 2:], new[2:]) - np.maximum(boxes[:, :2], new[:2])
        covered = common.clip(min=0).prod(axis=1)
        seen = covered <= 0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        growth = np.array([width / (x2 - x1), height / (y2 - y1)] * 2, dtype=np.float32)
        moved = (sample.boxes[~sample.crowd] - [x1, y1, x1, y1]) * growth + [x, y, x, y]
        pasted, their_labels = clip_boxes(
            moved, sample.labels[~sample.crowd], (x, y, x + width, y + height)
        )
        return np.concatenate([boxes[seen], pasted]), np.append(labels[seen], their_labels)


def soft_edges(width: int, height: int) -> Image.Image:
    """The opacity of a pasted object, which fades out over a tenth of its size at each edge."""
    across, down = (
        np.minimum(np.arange(length) + 1, length - np.arange(length)) / (1 + length / 10)
        for length in (width, height)
    )
    opacity = np.minimum(across, down[:, None]).clip(max=1)
    return Image.fromarray((255 * opacity).astype(np.uint8))


def clip_boxes(
    boxes: np.ndarray, labels: np.ndarray, region: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to a region, and remove those of which too little stays visible."""
    x1, y1, x2, y2 = region
    inside = boxes.clip(min=[x1, y1, x1, y1], max=[x2, y2, x2, y2]).astype(np.float32)
    area = (inside[:, 2:] - inside[:, :2]).prod(axis=1)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    visible = (area > 0.25 * whole) & (
        (inside[:, 2:] - inside[:, :2]).min(axis=1, initial=np.inf) >= 3
    )
    return inside[visible], labels[visible]


def collate(samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Images (B, 3, S, S), boxes (B, N, 4) and labels (B, N), padded with label -1.

    With proposals, also these (B, P, 4), padded with boxes without area.
    """
    images, boxes, labels, *proposals = zip(*samples, strict=True)
    batch = [torch.stack(images), padded_tensors(boxes, 0), padded_tensors(labels, -1)]
    return (*batch, *(padded_tensors(own, 0) for own in proposals))


def load_proposals(samples: list[BoxSample], file: Path, process: Process) -> list[np.ndarray]:
    """The selective search proposals (P, 4) of each sample, in pixels, cached in `file`.

    The work is distributed over the processes; each returns all proposals.
    """
    names = [str(sample.path) for sample in samples]
    if exists(file):
        with np.load(file) as cache:
            if cache["names"].tolist() == names:
                return np.split(cache["boxes"], cache["counts"].cumsum()[:-1])
    with ThreadPoolExecutor() as pool:
        own = pool.map(propose_in, process.share(samples))
        shared = track(own, "proposing", -(-len(samples) // process.world_size))
        found = list(process.gather(shared))
    if process.is_main:
        with whole_file(file) as partial, partial.open("wb") as stream:
            counts = [len(boxes) for boxes in found]
            np.savez(stream, names=names, boxes=np.concatenate(found), counts=counts)
    return found


def propose_in(sample: BoxSample) -> np.ndarray:
    """The selective search proposals of a sample; none for a damaged image."""
    from dlkit.detect.selective_search import SIDE, propose

    try:
        pixels = images.read(str(sample.path), SIDE).pixels
    except DlkitError:
        return NO_BOXES
    boxes = propose(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    scales = np.array([sample.width / pixels.shape[2], sample.height / pixels.shape[1]] * 2)
    scaled: np.ndarray = (boxes * scales).astype(np.float32)
    return scaled


def resize_batch(max_factor: float, images: Tensor, *boxes: Tensor) -> tuple[Tensor, ...]:
    """Resize a batch and its boxes by a random factor of up to `max_factor`.

    The new side is a multiple of 32, as in Redmon and Farhadi 2017, section 2.
    """
    side = images.shape[-1]
    least = math.ceil(side / max_factor / 32)
    new_side = 32 * random.randint(least, max(least, int(side * max_factor / 32)))
    if new_side == side:
        return images, *boxes
    resized = F.interpolate(images.float(), (new_side, new_side), mode="bilinear", antialias=True)
    return resized.round().byte(), *(own * (new_side / side) for own in boxes)
