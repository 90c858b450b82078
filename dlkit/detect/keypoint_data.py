"""Pictures with keypoints: reading their CSV files, and changing them at random for training.

train.csv, val.csv, test.csv    file, x1, y1, ..., xK, yK: a path from the CSV's folder, and
                                pixels of the image as shown; empty where not annotated
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
from dlkit.core.io.csv_files import csv_rows, value
from dlkit.detect.data import Canvases, empty
from dlkit.detect.layouts import Photograph, measured


@dataclass(frozen=True)
class KeypointSample(Photograph):
    """An image and its keypoints (K, 2) in pixels; nan where one is not annotated."""

    points: np.ndarray


class Listed(NamedTuple):
    """An image, the texts of its keypoints' x and y, and where they stand."""

    path: Path
    texts: list[tuple[str, str]]
    where: str


def read_keypoints(data: Path, split: str, count: int) -> tuple[list[KeypointSample], Skipped]:
    """The images of a split with `count` keypoints each, and what was left out.

    A keypoint that is no place in its image counts as not annotated. Raises DlkitError where the
    CSV is missing or has other columns.
    """
    file = data / f"{split}.csv"
    if not file.exists():
        raise DlkitError(
            f"{data}: no {file.name}: keypoints are read from train.csv, val.csv and test.csv"
            " with the columns file, x1, y1, x2, y2 ... (see the README)"
        )
    rows = list(listed(file, count))
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda row: measured(row.path), rows))
    skipped, samples = Skipped(), []
    for row, size in zip(rows, sizes, strict=True):
        if isinstance(size, str):
            skipped.add(size, str(row.path))
            continue
        points = [
            place(*texts, *size, f"{row.where}: keypoint {number}", skipped)
            for number, texts in enumerate(row.texts, 1)
        ]
        samples.append(KeypointSample(row.path, *size, np.array(points, np.float32)))
    if not any(np.isfinite(sample.points).any() for sample in samples):
        why = "; ".join(f"{kind}: {places[0]}" for kind, places in skipped.places.items())
        raise DlkitError(
            f"{file}: no image of it that can be read has a keypoint{why and f' ({why})'}"
        )
    skipped.report()
    return samples, skipped


def listed(file: Path, count: int) -> list[Listed]:
    """The rows of a CSV."""
    rows = []
    for number, row in csv_rows(file):
        if f"x{count + 1}" in row:
            raise DlkitError(
                f"{file} has more than {count} keypoints: give --keypoints all of them"
            )
        path = file.parent / value(row, ("file",), file)
        names = [(f"x{k}", f"y{k}") for k in range(1, count + 1)]
        texts = [(value(row, (x,), file).strip(), value(row, (y,), file).strip()) for x, y in names]
        rows.append(Listed(path, texts, f"{file}:{number}"))
    return rows


def place(
    x: str, y: str, width: int, height: int, where: str, skipped: Skipped
) -> tuple[float, float]:
    """A keypoint's place in its image; nan for one that is not annotated, or is no such place."""
    nowhere = float("nan"), float("nan")
    if not x and not y:
        return nowhere
    try:
        point = float(x), float(y)
    except ValueError:
        skipped.add("keypoint that is not two numbers", where)
        return nowhere
    if not (0 <= point[0] <= width and 0 <= point[1] <= height):  # also true of nan
        skipped.add("keypoint outside the image", where)
        return nowhere
    return point


class KeypointPictures(Canvases[KeypointSample]):
    """Training pictures of one size, augmented: image (3, S, S), keypoints (K, 2) in its pixels."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        side = self.config.image_size
        canvas = empty(side)
        zoom = self.config.scale ** random.uniform(-1, 1)
        way = self.put(canvas, (0, 0, side, side), index, zoom)
        points = np.full_like(self.samples[index].points, np.nan)
        if way is not None:
            points = (self.samples[index].points * way[0] + way[1]).astype(np.float32)
        points[((points < 0) | (points > side)).any(axis=1)] = np.nan  # not to be seen
        pixels = np.ascontiguousarray(self.jitter_color(canvas).transpose(2, 0, 1))
        return torch.from_numpy(pixels), torch.from_numpy(points)
