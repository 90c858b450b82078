"""Objects followed from frame to frame: SORT (Bewley et al. 2016, Simple Online and Realtime
Tracking).

A Kalman filter for each object foretells its box in the next frame. The boxes found there are dealt
out to the objects so that together they overlap the boxes foretold as much as possible.

Shapes: N boxes found, M objects followed.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from dlkit.detect.metrics import box_overlaps

LEAST_OVERLAP = 0.3  # of a box found with the one foretold (Bewley et al., section 4)
CONFIRMED_AFTER = 3  # frames with the object; before, it may be a mistake of the detector
# Frames without the object after which it is given up. The paper's 1 is for a detector that misses
# little; each miss of another would begin a new track.
LOST_AFTER = 10

# The state (section 3.2): center x, center y, area, width / height, and the first three's speeds.
MOTION = np.eye(7) + np.eye(7, k=4)
SEEN = np.eye(4, 7)
# The authors' choice of variances: areas and shapes are seen less exactly than places, speeds are
# unknown at first, and change little.
SEEN_NOISE = np.diag([1.0, 1, 10, 10])
FIRST_VARIANCES = np.diag([10.0, 10, 10, 10, 1e4, 1e4, 1e4])
MOTION_NOISE = np.diag([1.0, 1, 1, 1, 1e-2, 1e-2, 1e-4])


class Motion:
    """The Kalman filter of one box: `state` (7,) and its `covariance` (7, 7), in pixels."""

    def __init__(self, box: np.ndarray) -> None:
        self.state = np.concatenate([measured(box), np.zeros(3)])
        self.covariance = FIRST_VARIANCES.copy()

    def predict(self) -> np.ndarray:
        """Go on by a frame; the box (4,) that is expected there."""
        if self.state[2] + self.state[6] <= 0:  # no area is negative
            self.state[6] = 0
        self.state = MOTION @ self.state
        self.covariance = MOTION @ self.covariance @ MOTION.T + MOTION_NOISE
        x, y, area, ratio = self.state[:4]
        width = (area * ratio) ** 0.5
        height = area / width
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])

    def correct(self, box: np.ndarray) -> None:
        """Take account of the box (4,) that was seen."""
        surprise = measured(box) - SEEN @ self.state
        variance = SEEN @ self.covariance @ SEEN.T + SEEN_NOISE
        gain = self.covariance @ SEEN.T @ np.linalg.inv(variance)
        self.state = self.state + gain @ surprise
        self.covariance = (np.eye(7) - gain @ SEEN) @ self.covariance


def measured(box: np.ndarray) -> np.ndarray:
    """What the filter sees of a box x1, y1, x2, y2: center, area, width / height."""
    # A box cut at the picture's border may have no width.
    width, height = np.maximum(box[2:] - box[:2], 1.0)
    x, y = (box[:2] + box[2:]) / 2
    return np.array([x, y, width * height, width / height])


class Track:
    """One object that is followed; its `number`, from 1 on, once it is confirmed."""

    def __init__(self, box: np.ndarray, label: str) -> None:
        self.motion, self.label = Motion(box), label
        self.seen, self.missed = 1, 0
        self.number: int | None = None


class Tracker:
    """Follows the objects of one video, whose frames it is given one after the other."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.frames = 0
        self.numbers = itertools.count(1)

    def update(self, boxes: np.ndarray, labels: Sequence[str]) -> list[int | None]:
        """The number of the object that each box (N, 4) of a frame shows.

        None for one that was seen in too few frames yet. A box goes on with an object of its label
        only.
        """
        self.frames += 1
        expected = np.array([track.motion.predict() for track in self.tracks]).reshape(-1, 4)
        overlaps, _ = box_overlaps(boxes.reshape(-1, 4), expected)
        same = np.array([[t.label == label for t in self.tracks] for label in labels], dtype=bool)
        overlaps = np.where(same.reshape(overlaps.shape), overlaps, 0.0)
        shown: list[Track | None] = [None] * len(boxes)
        for found, followed in cheapest_pairs(-overlaps):
            if overlaps[found, followed] >= LEAST_OVERLAP:
                shown[found] = self.tracks[followed]
        for track in self.tracks:
            track.missed += 1
        numbers: list[int | None] = []
        for box, label, known in zip(boxes, labels, shown, strict=True):
            track = known or Track(box, label)
            if known is None:
                self.tracks.append(track)
            else:
                track.motion.correct(box)
                track.seen += 1
                track.missed = 0
            # What the video begins with has had no time to be confirmed.
            if track.number is None and (
                track.seen >= CONFIRMED_AFTER or track.seen == self.frames
            ):
                track.number = next(self.numbers)
            numbers.append(track.number)
        # An object that was not confirmed at once is soon forgotten.
        self.tracks = [
            t for t in self.tracks if t.missed <= (LOST_AFTER if t.number is not None else 1)
        ]
        return numbers


def cheapest_pairs(costs: np.ndarray) -> list[tuple[int, int]]:
    """The min(N, M) pairs of a row and a column, each in one at most, that cost least together.

    `costs` (N, M) may be negative. The Hungarian method with shortest augmenting paths (Jonker and
    Volgenant 1987): row after row is given a column, and the others make room along the path that
    raises the sum least. Prices of rows and columns keep the reduced costs from being negative, as
    Dijkstra's algorithm needs it.
    """
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in cheapest_pairs(costs.T))
    row_prices, column_prices = (np.zeros(count) for count in costs.shape)
    row_of = np.full(costs.shape[1], -1)
    for first in range(len(costs)):
        shortest = np.full(costs.shape[1], np.inf)
        before = np.full(costs.shape[1], -1)  # the column from which a path comes to each
        reached = np.zeros(costs.shape[1], dtype=bool)
        row, column, length = first, -1, 0.0
        while row >= 0:
            paths = length + costs[row] - row_prices[row] - column_prices
            better = ~reached & (paths < shortest)
            shortest[better], before[better] = paths[better], column
            column = int(np.where(reached, np.inf, shortest).argmin())
            length = shortest[column]
            reached[column] = True
            row = row_of[column]
        inner = reached & (row_of >= 0)
        row_prices[first] += length
        row_prices[row_of[inner]] += length - shortest[inner]
        column_prices[inner] -= length - shortest[inner]
        while column >= 0:
            row_of[column] = first if before[column] < 0 else row_of[before[column]]
            column = before[column]
    return sorted((int(row), column) for column, row in enumerate(row_of) if row >= 0)
