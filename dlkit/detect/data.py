"""Training batches: pictures changed at random, with their boxes."""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.nn.padding import padded_tensors
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import log, track
from dlkit.core.vision import images
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.layouts import Photograph, Sample
from dlkit.detect.models.detector import GRAY

PROPOSED = -1  # the label of a proposal among objects
MOST_IN_MEMORY = 4_000_000_000  # bytes of decoded training images that are kept
MOST_PASTED, SMALLEST_PASTED = 3, 8  # objects a picture, pixels a side
NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)

P = TypeVar("P", bound=Photograph)


class Canvases(Dataset[tuple[Tensor, ...]], Generic[P]):
    """Photographs, kept in memory where they fit, to be put on canvases of one size."""

    def __init__(self, samples: list[P], config: DetectTrainConfig) -> None:
        self.samples, self.config = samples, config
        self.kept: list[np.ndarray | None] = []
        if len(samples) * config.image_size**2 * 3 <= MOST_IN_MEMORY:
            with ThreadPoolExecutor() as pool:
                self.kept = list(track(pool.map(self.decode, samples), "reading", len(samples)))

    def decode(self, sample: P) -> np.ndarray | None:
        """Pixels (h, w, 3) whose longest side is the training size; None for a damaged image."""
        try:
            pixels = images.read(str(sample.path), self.config.image_size).pixels
        except DlkitError as error:
            log(f"left out {sample.path}: {error}")
            return None
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, index: int) -> np.ndarray | None:
        """Those of an image, as `decode` gives them."""
        return self.kept[index] if self.kept else self.decode(self.samples[index])

    def put(
        self, canvas: Image.Image, region: tuple[int, int, int, int], index: int, zoom: float
    ) -> np.ndarray | None:
        """Paste an image, zoomed and shifted at random, into a region; None for a damaged one.

        Returns the scales (2,) and the offsets (2,), as a matrix (2, 2), that lead from pixels of
        the file to those of the canvas. `zoom` 1 fits the longest side to the canvas; width and
        height vary a little besides.
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
        """The canvas's pixels (S, S, 3) in colors that are changed at random."""
        return np.array(canvas.point(self.color_table()) if self.config.color_jitter else canvas)

    def color_table(self) -> list[int]:
        """For each channel the 256 new values: brightness, contrast and a cast of color."""
        share = self.config.color_jitter
        contrast, brightness = (1 + random.uniform(-share, share) for _ in range(2))
        values = np.arange(256)
        table = []
        for _ in range(3):
            cast = brightness * (1 + random.uniform(-share, share) / 3)
            table += list(((values * cast - 128) * contrast + 128).clip(0, 255).astype(int))
        return table


def empty(side: int) -> Image.Image:
    """A gray canvas."""
    return Image.new("RGB", (side, side), (GRAY, GRAY, GRAY))


class Pictures(Canvases[Sample]):
    """Training pictures of one size, augmented: image (3, S, S), boxes (N, 4), labels (N,).

    Where there are `proposals` of each sample, in pixels of its file, (P, 4) of them come last.
    """

    def __init__(
        self,
        samples: list[Sample],
        config: DetectTrainConfig,
        proposals: list[np.ndarray] | None = None,
    ) -> None:
        super().__init__(samples, config)
        self.proposals = proposals
        self.mosaic, self.copy_paste = config.mosaic, config.copy_paste

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        side = self.config.image_size
        canvas = empty(side)
        if random.random() < self.mosaic:
            x, y = (int(side * random.uniform(0.3, 0.7)) for _ in range(2))
            regions = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
            others = random.choices(range(len(self)), k=3)
            placed = [
                self.place(canvas, region, i, random.uniform(0.35, 1.0))
                for region, i in zip(regions, [index, *others], strict=True)
            ]
        else:
            zoom = self.config.scale ** random.uniform(-1, 1)
            placed = [self.place(canvas, (0, 0, side, side), index, zoom)]
        boxes = np.concatenate([boxes for boxes, _ in placed])
        labels = np.concatenate([labels for _, labels in placed])
        if self.copy_paste and random.random() < self.copy_paste:
            for _ in range(random.randint(1, MOST_PASTED)):
                boxes, labels = self.paste(canvas, boxes, labels)
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

    def plain(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """A whole image (3, h, w) with its boxes, labels and proposals; None if it is damaged."""
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

    def place(
        self, canvas: Image.Image, region: tuple[int, int, int, int], index: int, zoom: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Put an image into a region of the canvas (see `put`); its boxes and labels there."""
        way = self.put(canvas, region, index, zoom)
        if way is None:
            return NO_BOXES, NO_LABELS
        sample = self.samples[index]
        boxes, labels = sample.boxes[~sample.crowd], sample.labels[~sample.crowd]
        if self.proposals is not None:  # they move with the objects
            boxes = np.concatenate([boxes, self.proposals[index]])
            labels = np.concatenate([labels, np.full(len(self.proposals[index]), PROPOSED)])
        scale, offset = np.tile(way, 2).astype(np.float32)
        return cut(boxes * scale + offset, labels, region)

    def paste(
        self, canvas: Image.Image, boxes: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste an object of any picture somewhere; the boxes and labels that are then to be seen.

        After Dwibedi et al. 2017; of the object there is a box only, so its edges are blurred, and
        what else is in the box comes along. An object more than half of which is covered goes.
        """
        index, side = random.randrange(len(self)), self.config.image_size
        pixels, sample = self.pixels(index), self.samples[index]
        choices = np.flatnonzero(~sample.crowd).tolist()
        if pixels is None or not choices:
            return boxes, labels
        chosen = random.choice(choices)
        x1, y1, x2, y2 = sample.boxes[chosen].tolist()
        zoom = side / max(sample.width, sample.height) * self.config.scale ** random.uniform(-1, 1)
        width, height = round((x2 - x1) * zoom), round((y2 - y1) * zoom)
        if min(width, height) < SMALLEST_PASTED or max(width, height) > side:
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
        pasted, their_labels = cut(
            moved, sample.labels[~sample.crowd], (x, y, x + width, y + height)
        )
        return np.concatenate([boxes[seen], pasted]), np.append(labels[seen], their_labels)


def soft_edges(width: int, height: int) -> Image.Image:
    """How much of a pasted object shows: all of it, but for a tenth of its size at each edge."""
    across, down = (
        np.minimum(np.arange(length) + 1, length - np.arange(length)) / (1 + length / 10)
        for length in (width, height)
    )
    shown = np.minimum(across, down[:, None]).clip(max=1)
    return Image.fromarray((255 * shown).astype(np.uint8))


def cut(
    boxes: np.ndarray, labels: np.ndarray, region: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes cut at the region's border, without those of which too little is left to see."""
    x1, y1, x2, y2 = region
    inside = boxes.clip(min=[x1, y1, x1, y1], max=[x2, y2, x2, y2]).astype(np.float32)
    left = (inside[:, 2:] - inside[:, :2]).prod(axis=1)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    seen = (left > 0.25 * whole) & (
        (inside[:, 2:] - inside[:, :2]).min(axis=1, initial=np.inf) >= 3
    )
    return inside[seen], labels[seen]


def collate(samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """images (B, 3, S, S), boxes (B, N, 4), labels (B, N) padded with -1.

    Of samples with proposals also those, (B, P, 4), padded with boxes without area.
    """
    images, boxes, labels, *proposals = zip(*samples, strict=True)
    batch = [torch.stack(images), padded_tensors(boxes, 0), padded_tensors(labels, -1)]
    return (*batch, *(padded_tensors(own, 0) for own in proposals))


def proposals_of(samples: list[Sample], file: Path, process: Process) -> list[np.ndarray]:
    """What selective search proposes in each sample, (P, 4) in pixels; kept in `file` for later.

    The processes share the work, and all get all.
    """
    names = [str(sample.path) for sample in samples]
    if file.exists():
        with np.load(file) as kept:
            if kept["names"].tolist() == names:
                return np.split(kept["boxes"], kept["counts"].cumsum()[:-1])
    with ThreadPoolExecutor() as pool:
        own = pool.map(proposed, process.share(samples))
        shared = track(own, "proposing", -(-len(samples) // process.world_size))
        found = list(process.gather(shared))
    if process.is_main:
        with whole_file(file) as partial, partial.open("wb") as stream:
            counts = [len(boxes) for boxes in found]
            np.savez(stream, names=names, boxes=np.concatenate(found), counts=counts)
    return found


def proposed(sample: Sample) -> np.ndarray:
    """What selective search proposes in a sample; nothing in a damaged image."""
    from dlkit.detect.selective_search import SIDE, propose

    try:
        pixels = images.read(str(sample.path), SIDE).pixels
    except DlkitError:
        return NO_BOXES
    boxes = propose(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    share = sample.width / pixels.shape[2], sample.height / pixels.shape[1]
    return (boxes * np.array(share * 2)).astype(np.float32)


def rescaled(most: float, images: Tensor, *boxes: Tensor) -> tuple[Tensor, ...]:
    """A batch at a size drawn at random, up to `most` times smaller or larger, with its boxes.

    Its side is a multiple of 32, as in Redmon and Farhadi 2017, section 2.
    """
    side = images.shape[-1]
    least = math.ceil(side / most / 32)
    drawn = 32 * random.randint(least, max(least, int(side * most / 32)))
    if drawn == side:
        return images, *boxes
    resized = F.interpolate(images.float(), (drawn, drawn), mode="bilinear", antialias=True)
    return resized.round().byte(), *(own * (drawn / side) for own in boxes)
