"""Pairs of images that show the same: small descriptors, compared one with all.

N images, D numbers of a descriptor.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 16  # pixels of the thumbnail that describes an image
BLOCK = 1024  # rows that are compared at once
SAME = 1e-4  # the distance below which two images are called the same
NEAR = 0.02  # the most that two similar images are apart
NEAR_SHARE = 0.1  # of the median distance to the nearest other image
FLAT = 1e-3  # deviation of the values below which an image shows nothing


@dataclass(frozen=True)
class Pair:
    """Two images by their numbers, and their distance: 1 - correlation of the thumbnails."""

    first: int
    second: int
    distance: float


def describe(picture: Image.Image) -> np.ndarray:
    """The descriptor (D,) of an RGB image: its thumbnail, without its mean, of length one.

    It is the same for another size, and nearly so for another compression. Zeros for an image
    without contrast, which is similar to none.
    """
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).reshape(-1) / 255
    values -= values.mean()
    if values.std() < FLAT:
        return np.zeros_like(values)
    return values / np.linalg.norm(values)


def middle_square(picture: Image.Image) -> Image.Image:
    """The largest square in the middle of an image."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def similar_pairs(descriptors: np.ndarray) -> list[Pair]:
    """All pairs of similar images among descriptors (N, D), the most similar first.

    They are closer than NEAR and than a tenth of the median distance between an image and
    the nearest other one: where all images are alike, as digits are, less counts as similar.
    """
    candidates: list[Pair] = []
    nearest = np.full(len(descriptors), np.inf, np.float32)
    for start, distances in blocks_of_distances(descriptors):
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        nearest[start : start + len(distances)] = distances.min(axis=1, initial=np.inf)
        for row, column in np.argwhere(distances < NEAR):
            if column > start + row:
                distance = max(0.0, float(distances[row, column]))
                candidates.append(Pair(start + int(row), int(column), distance))
    limit = near_limit(nearest)
    return sorted(
        (pair for pair in candidates if pair.distance < limit), key=lambda pair: pair.distance
    )


def pairs_between(
    descriptors: np.ndarray, squares: np.ndarray, others: np.ndarray, other_squares: np.ndarray
) -> list[Pair]:
    """The most similar image of another data set for each image that has one, nearest first.

    `descriptors` (N, D) and `squares` (N, D), those of the middle squares, against `others` (M, D)
    and `other_squares` (M, D): a square that was cut from the middle of an image is also found.
    The limit is that of `similar_pairs` for the first data set, of its images that differ.
    """
    nearest = np.full(len(descriptors), np.inf, np.float32)
    for start, distances in blocks_of_distances(descriptors):
        distances[distances < NEAR] = np.inf
        nearest[start : start + len(distances)] = distances.min(axis=1, initial=np.inf)
    limit = near_limit(nearest)
    pairs: list[Pair] = []
    blocks = zip(
        blocks_of_distances(descriptors, others),
        blocks_of_distances(squares, other_squares),
        strict=True,
    )
    for (start, whole), (_, square) in blocks:
        distances = np.minimum(whole, square)
        for row, column in enumerate(distances.argmin(axis=1)):
            distance = max(0.0, float(distances[row, column]))
            if distance < limit:
                pairs.append(Pair(start + row, int(column), distance))
    return sorted(pairs, key=lambda pair: pair.distance)


def near_limit(nearest: np.ndarray) -> float:
    """The distance (of the nearest ones (N,)) below which two images are similar."""
    finite = nearest[np.isfinite(nearest) & (nearest > SAME)]
    share = NEAR_SHARE * float(np.median(finite)) if len(finite) else NEAR
    return max(min(NEAR, share), SAME)


def blocks_of_distances(
    descriptors: np.ndarray, others: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row and the distances (B, M) of each block of rows to all, or to others."""
    descriptors = descriptors.astype(np.float32, copy=False)
    columns = descriptors if others is None else others.astype(np.float32, copy=False)
    for start in range(0, len(descriptors), BLOCK):
        yield start, 1 - descriptors[start : start + BLOCK] @ columns.T


def groups_of(pairs: list[Pair]) -> list[list[int]]:
    """The images of the pairs in groups that hang together, each in order of their numbers."""
    leader: dict[int, int] = {}

    def find(number: int) -> int:
        while (above := leader.setdefault(number, number)) != number:
            leader[number] = leader[above]
            number = leader[number]
        return number

    for pair in pairs:
        one, other = sorted((find(pair.first), find(pair.second)))
        leader[other] = one
    groups: dict[int, list[int]] = {}
    for number in sorted(leader):
        groups.setdefault(find(number), []).append(number)
    return list(groups.values())
