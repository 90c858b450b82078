"""Training batches: pictures changed at random, with their boxes."""

import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dlkit.core import images
from dlkit.core.errors import DlkitError
from dlkit.core.progress import log, track
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.layouts import Sample

GREY = 114  # the border around images that do not fill the square
MOST_IN_MEMORY = 4_000_000_000  # bytes of decoded training images that are kept
MOST_PASTED, SMALLEST_PASTED = 3, 8  # objects a picture, pixels a side
NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


class Pictures(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Training pictures of one size, augmented: image (3, S, S), boxes (N, 4), labels (N,)."""

    def __init__(self, samples: list[Sample], config: DetectTrainConfig) -> None:
        self.samples, self.config = samples, config
        self.mosaic, self.copy_paste = config.mosaic, config.copy_paste
        self.kept: list[np.ndarray | None] = []
        if len(samples) * config.image_size**2 * 3 <= MOST_IN_MEMORY:
            with ThreadPoolExecutor() as pool:
                self.kept = list(track(pool.map(self.decode, samples), "reading", len(samples)))

    def decode(self, sample: Sample) -> np.ndarray | None:
        """Pixels (h, w, 3) whose longest side is the training size; None for a damaged image."""
        try:
            pixels = images.read(str(sample.path), self.config.image_size).pixels
        except DlkitError as error:
            log(f"left out {sample.path}: {error}")
            return None
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        side = self.config.image_size
        canvas = Image.new("RGB", (side, side), (GREY, GREY, GREY))
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
        pixels = np.array(canvas.point(self.colour_table()) if self.config.recolour else canvas)
        if random.random() < self.config.flip:
            pixels = pixels[:, ::-1]
            boxes = np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], 1)
        if random.random() < self.config.flip_vertical:
            pixels = pixels[::-1]
            boxes = np.stack([boxes[:, 0], side - boxes[:, 3], boxes[:, 2], side - boxes[:, 1]], 1)
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return image, torch.from_numpy(boxes), torch.from_numpy(labels)

    def place(
        self, canvas: Image.Image, region: tuple[int, int, int, int], index: int, zoom: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste an image, zoomed and shifted at random, into a region; its boxes and labels there.

        `zoom` 1 fits the longest side to the canvas; width and height vary a little besides.
        """
        sample = self.samples[index]
        pixels = self.kept[index] if self.kept else self.decode(sample)
        if pixels is None:
            return NO_BOXES, NO_LABELS
        image = Image.fromarray(pixels)
        x1, y1, x2, y2 = region
        zoom *= self.config.image_size / max(image.size)
        stretch = random.uniform(0.9, 1.11) ** 0.5
        scales, offsets, crop, target = [], [], [], []
        for length, room, scale in zip(
            image.size, (x2 - x1, y2 - y1), (zoom * stretch, zoom / stretch), strict=True
        ):
            whole = max(1, round(length * scale))
            shift = round(random.uniform(0, room - whole))  # negative when the image is larger
            scales.append(whole)
            offsets.append(shift)
            low, high = max(0, -shift), min(whole, room - shift)
            crop.append((low * length / whole, high * length / whole))
            target.append((max(0, shift), high - low))
        box = (crop[0][0], crop[1][0], crop[0][1], crop[1][1])
        part = image.resize((target[0][1], target[1][1]), Image.Resampling.BILINEAR, box)
        canvas.paste(part, (x1 + target[0][0], y1 + target[1][0]))

        size = np.array([sample.width, sample.height] * 2, dtype=np.float32)
        boxes = sample.boxes[~sample.crowd] / size * np.array(scales * 2, dtype=np.float32)
        boxes = boxes + np.array([offsets[0] + x1, offsets[1] + y1] * 2, dtype=np.float32)
        return cut(boxes, sample.labels[~sample.crowd], region)

    def paste(
        self, canvas: Image.Image, boxes: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste an object of any picture somewhere; the boxes and labels that are then to be seen.

        After Dwibedi et al. 2017; of the object there is a box only, so its edges are blurred, and
        what else is in the box comes along. An object more than half of which is covered goes.
        """
        index, side = random.randrange(len(self)), self.config.image_size
        sample = self.samples[index]
        pixels = self.kept[index] if self.kept else self.decode(sample)
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

    def colour_table(self) -> list[int]:
        """For each channel the 256 new values: brightness, contrast and a cast of colour."""
        share = self.config.recolour
        contrast, brightness = (1 + random.uniform(-share, share) for _ in range(2))
        values = np.arange(256)
        table = []
        for _ in range(3):
            cast = brightness * (1 + random.uniform(-share, share) / 3)
            table += list(((values * cast - 128) * contrast + 128).clip(0, 255).astype(int))
        return table


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


def collate(samples: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """images (B, 3, S, S), boxes (B, N, 4), labels (B, N) padded with -1."""
    most = max(1, *(len(labels) for _, _, labels in samples))
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.full((len(samples), most), -1)
    for index, (_, own_boxes, own_labels) in enumerate(samples):
        boxes[index, : len(own_boxes)] = own_boxes
        labels[index, : len(own_labels)] = own_labels
    return torch.stack([image for image, _, _ in samples]), boxes, labels


def rescaled(images: Tensor, boxes: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """A batch at a size drawn at random, up to `most` times smaller or larger, with its boxes.

    Its side is a multiple of 32, as in Redmon and Farhadi 2017, section 2.
    """
    side = images.shape[-1]
    least = math.ceil(side / most / 32)
    drawn = 32 * random.randint(least, max(least, int(side * most / 32)))
    if drawn == side:
        return images, boxes
    resized = F.interpolate(images.float(), (drawn, drawn), mode="bilinear", antialias=True)
    return resized.round().byte(), boxes * (drawn / side)
