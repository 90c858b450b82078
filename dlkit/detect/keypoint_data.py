"""Images with keypoints: reading of their CSV files, and augmentation for training.

train.csv, val.csv, test.csv    file, x1, y1, ..., xK, yK: a path from the CSV's folder, and pixels
                                of the upright image; empty if not annotated
"""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io.rows import Column, read_rows
from dlkit.detect.data import CanvasDataset, gray_canvas
from dlkit.detect.layouts import ImageFile, measure_image


@dataclass(frozen=True)
class KeypointSample(ImageFile):
    """An image and its keypoints (K, 2) in pixels; nan if not annotated."""

    points: np.ndarray


class KeypointRow(NamedTuple):
    """A row of a CSV: the image, the texts of its keypoints' x and y, and the line's place."""

    path: Path
    texts: list[tuple[str, str]]
    where: str


def read_keypoints(data: Path, split: str, count: int) -> tuple[list[KeypointSample], Skipped]:
    """Read the images of a split with `count` keypoints each; returns also the skipped samples.

    A keypoint that is not inside its image counts as not annotated. Raises DlkitError for a CSV
    that is missing or has other columns.
    """
    file = data / f"{split}.csv"
    if not file.exists():
        raise DlkitError(
            f"no {file.name}; keypoints are read from train.csv, val.csv and test.csv with the"
            " columns file, x1, y1, x2, y2 ... (see `dlkit docs detect`)",
            data,
        )
    skipped = Skipped()
    rows = keypoint_rows(file, count, skipped)
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda row: measure_image(row.path), rows))
    samples = []
    for row, size in zip(rows, sizes, strict=True):
        if isinstance(size, str):
            skipped.add(size, str(row.path))
            continue
        points = [
            parse_point(*texts, *size, f"{row.where}: keypoint {number}", skipped)
            for number, texts in enumerate(row.texts, 1)
        ]
        samples.append(KeypointSample(row.path, *size, np.array(points, np.float32)))
    if not any(np.isfinite(sample.points).any() for sample in samples):
        reasons = "; ".join(f"{kind}: {places[0]}" for kind, places in skipped.places.items())
        raise DlkitError(f"no readable image has a keypoint{reasons and f' ({reasons})'}", file)
    skipped.report()
    return samples, skipped


def keypoint_rows(file: Path, count: int, skipped: Skipped) -> list[KeypointRow]:
    """Read the rows of a CSV."""
    names = [(f"x{k}", f"y{k}") for k in range(1, count + 1)]
    more = f"x{count + 1}"
    columns = {name: Column((name,), number=True) for pair in names for name in pair}
    columns |= {"file": Column(("file",)), more: Column((more,), optional=True, number=True)}
    rows = []
    for where, row in read_rows(file, columns, skipped.add):
        if more in row:
            raise DlkitError(
                f"has more than {count} keypoints; give --keypoints their number", file
            )
        texts = [(row[x].strip(), row[y].strip()) for x, y in names]
        rows.append(KeypointRow(file.parent / row["file"], texts, where))
    return rows


def parse_point(
    x: str, y: str, width: int, height: int, where: str, skipped: Skipped
) -> tuple[float, float]:
    """The coordinates of a keypoint; nan for one that is not annotated or not in its image."""
    missing = float("nan"), float("nan")
    if not x and not y:
        return missing
    try:
        point = float(x), float(y)
    except ValueError:
        skipped.add("keypoint that is not two numbers", where)
        return missing
    if not (0 <= point[0] <= width and 0 <= point[1] <= height):  # also true of nan
        skipped.add("keypoint outside the image", where)
        return missing
    return point


class KeypointDataset(CanvasDataset[KeypointSample]):
    """Augmented training images of one size: image (3, S, S), keypoints (K, 2) in its pixels."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        side = self.config.image_size
        canvas = gray_canvas(side)
        zoom = self.config.zoom ** random.uniform(-1, 1)
        transform = self.paste_image(canvas, (0, 0, side, side), index, zoom)
        points = np.full_like(self.samples[index].points, np.nan)
        if transform is not None:
            points = (self.samples[index].points * transform[0] + transform[1]).astype(np.float32)
        points[((points < 0) | (points > side)).any(axis=1)] = np.nan  # not visible
        pixels = np.ascontiguousarray(self.jitter_color(canvas).transpose(2, 0, 1))
        return torch.from_numpy(pixels), torch.from_numpy(points)
