"""Images with keypoints: reading of their CSV files, and augmentation for training.

train.csv, val.csv, test.csv    file, x1, y1, ..., xK, yK: a path from the CSV's folder, and pixels
                                of the upright image; empty if not annotated
"""

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlkit.core.config import ALLOW_SKIPPED
from dlkit.core.datasets.pictures import measure
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists
from dlkit.core.io.rows import Column, read_rows
from dlkit.core.ledger import Ledger
from dlkit.detect.data import CanvasDataset, gray_canvas
from dlkit.detect.layouts import ImageFile


@dataclass(frozen=True)
class KeypointSample(ImageFile):
    """An image and its keypoints (K, 2) in pixels; nan if not annotated."""

    points: np.ndarray


class KeypointRow(NamedTuple):
    """A row of a CSV: the image, the texts of its keypoints' x and y, and the line's place."""

    path: Path
    texts: list[tuple[str, str]]
    where: str


def read_keypoints(
    data: Path, split: str, count: int, allowed: float = ALLOW_SKIPPED
) -> tuple[list[KeypointSample], Ledger]:
    """Read the images of a split with `count` keypoints each, and the account of all.

    A keypoint that is not inside its image counts as not annotated. Raises DlkitError for a CSV
    that is missing or has other columns, and where more than the share `allowed` is skipped.
    """
    file = data / f"{split}.csv"
    if not exists(file):
        raise DlkitError(
            f"no {file.name}; keypoints are read from train.csv, val.csv and test.csv with the"
            " columns file, x1, y1, x2, y2 ... (see `dlkit docs detect`)",
            data,
        )
    ledger = Ledger(split)
    rows = keypoint_rows(file, count, ledger)
    samples = []
    for row, size in zip(rows, measure([row.path for row in rows], split), strict=True):
        if isinstance(size, str):
            ledger.skip("images", size, str(row.path))
            continue
        ledger.use("images")
        points = [
            parse_point(*texts, *size, f"{row.where}: keypoint {number}", ledger)
            for number, texts in enumerate(row.texts, 1)
        ]
        samples.append(KeypointSample(row.path, *size, np.array(points, np.float32)))
    ledger.report()
    ledger.require("images", file)
    ledger.require("keypoints", file)
    ledger.check(allowed, file)
    return samples, ledger


def keypoint_rows(file: Path, count: int, ledger: Ledger) -> list[KeypointRow]:
    """Read the rows of a CSV."""
    names = [(f"x{k}", f"y{k}") for k in range(1, count + 1)]
    more = f"x{count + 1}"
    columns = {name: Column((name,), number=True) for pair in names for name in pair}
    columns |= {"file": Column(("file",)), more: Column((more,), optional=True, number=True)}
    rows = []
    for where, row in read_rows(file, columns, partial(ledger.skip, "images")):
        if more in row:
            raise DlkitError(
                f"has more than {count} keypoints; give --keypoints their number", file
            )
        texts = [(row[x].strip(), row[y].strip()) for x, y in names]
        rows.append(KeypointRow(file.parent / row["file"], texts, where))
    return rows


def parse_point(
    x: str, y: str, width: int, height: int, where: str, ledger: Ledger
) -> tuple[float, float]:
    """The coordinates of a keypoint; nan for one that is not annotated or not in its image."""
    missing = float("nan"), float("nan")
    if not x and not y:
        return missing
    try:
        point = float(x), float(y)
    except ValueError:
        ledger.skip("keypoints", "keypoint that is not two numbers", where)
        return missing
    if not (0 <= point[0] <= width and 0 <= point[1] <= height):  # also true of nan
        ledger.skip("keypoints", "keypoint outside its image", where)
        return missing
    ledger.use("keypoints")
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
