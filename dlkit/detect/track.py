"""SORT: Simple Online and Realtime Tracking of objects (Bewley et al. 2016).

A Kalman filter for each object predicts its box in the next frame; detections are assigned to
predictions so that the sum of their overlaps is largest.

Shapes: N detections, M tracks.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from dlkit.detect.metrics import box_overlaps

MIN_OVERLAP = 0.3  # IoU of a detection with a prediction (Bewley et al., section 4)
CONFIRMED_AFTER = 3  # frames with the object; before, it may be a false detection
# Frames without the object after which its track ends. The paper's 1 suits a detector that misses
# little; with others, each miss would start a new track.
LOST_AFTER = 10

# The state (section 3.2): center x, center y, area, width / height; velocities of the first three.
MOTION = np.eye(7) + np.eye(7, k=4)
OBSERVATION = np.eye(4, 7)
# The authors' choice of variances: area and aspect ratio are observed less exactly than the center,
# velocities are unknown at first and change little.
OBSERVATION_NOISE = np.diag([1.0, 1, 10, 10])
FIRST_VARIANCES = np.diag([10.0, 10, 10, 10, 1e4, 1e4, 1e4])
MOTION_NOISE = np.diag([1.0, 1, 1, 1, 1e-2, 1e-2, 1e-4])


class Motion:
    """The Kalman filter of one box: `state` (7,) and its `covariance` (7, 7), in pixels."""

    def __init__(self, box: np.ndarray) -> None:
        self.state = np.concatenate([measure(box), np.zeros(3)])
        self.covariance = FIRST_VARIANCES.copy()

    def predict(self) -> np.ndarray:
        """Advance by a frame; returns the predicted box (4,)."""
        if self.state[2] + self.state[6] <= 0:  # an area cannot be negative
            self.state[6] = 0
        self.state = MOTION @ self.state
        self.covariance = MOTION @ self.covariance @ MOTION.T + MOTION_NOISE
        x, y, area, ratio = self.state[:4]
        width = (area * ratio) ** 0.5
        height = area / width
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])

    def correct(self, box: np.ndarray) -> None:
        """Update the state with a detected box (4,)."""
        residual = measure(box) - OBSERVATION @ self.state
        variance = OBSERVATION @ self.covariance @ OBSERVATION.T + OBSERVATION_NOISE
        gain = self.covariance @ OBSERVATION.T @ np.linalg.inv(variance)
        self.state = self.state + gain @ residual
        self.covariance = (np.eye(7) - gain @ OBSERVATION) @ self.covariance


def measure(box: np.ndarray) -> np.ndarray:
    """The observation of a box x1, y1, x2, y2: center, area, width / height."""
    # A box clipped at the image's border may have no width.
    width, height = np.maximum(box[2:] - box[:2], 1.0)
    x, y = (box[:2] + box[2:]) / 2
    return np.array([x, y, width * height, width / height])


class Track:
    """A tracked object; it has a `number`, from 1 on, once it is confirmed."""

    def __init__(self, box: np.ndarray, label: str) -> None:
        self.motion, self.label = Motion(box), label
        self.seen, self.missed = 1, 0
        self.number: int | None = None


class Tracker:
    """Tracks the objects of one video, frame by frame."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.frames = 0
        self.numbers = itertools.count(1)

    def update(self, boxes: np.ndarray, labels: Sequence[str]) -> list[int | None]:
        """Assign the boxes (N, 4) of the next frame to tracks of the same label.

        Returns the track number of each box; None for objects that are not yet confirmed.
        """
        self.frames += 1
        expected = np.array([track.motion.predict() for track in self.tracks]).reshape(-1, 4)
        overlaps, _ = box_overlaps(boxes.reshape(-1, 4), expected)
        same = np.array([[t.label == label for t in self.tracks] for label in labels], dtype=bool)
        overlaps = np.where(same.reshape(overlaps.shape), overlaps, 0.0)
        assigned: list[Track | None] = [None] * len(boxes)
        for detection, tracked in min_cost_pairs(-overlaps):
            if overlaps[detection, tracked] >= MIN_OVERLAP:
                assigned[detection] = self.tracks[tracked]
        for track in self.tracks:
            track.missed += 1
        numbers: list[int | None] = []
        for box, label, known in zip(boxes, labels, assigned, strict=True):
            track = known or Track(box, label)
            if known is None:
                self.tracks.append(track)
            else:
                track.motion.correct(box)
                track.seen += 1
                track.missed = 0
            # Objects of the first frames are confirmed at once.
            if track.number is None and (
                track.seen >= CONFIRMED_AFTER or track.seen == self.frames
            ):
                track.number = next(self.numbers)
            numbers.append(track.number)
        # An unconfirmed track ends after two misses.
        self.tracks = [
            t for t in self.tracks if t.missed <= (LOST_AFTER if t.number is not None else 1)
        ]
        return numbers


def min_cost_pairs(costs: np.ndarray) -> list[tuple[int, int]]:
    """Solve the assignment problem: min(N, M) pairs of a row and a column of least total cost.

    `costs` (N, M) may be negative. The Hungarian method with shortest augmenting paths (Jonker and
    Volgenant 1987): each row is assigned to a column along the augmenting path that raises the sum
    least. Potentials of rows and columns keep the reduced costs nonnegative, which Dijkstra's
    algorithm requires.
    """
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in min_cost_pairs(costs.T))
    row_potentials, column_potentials = (np.zeros(count) for count in costs.shape)
    row_of = np.full(costs.shape[1], -1)
    for first in range(len(costs)):
        shortest = np.full(costs.shape[1], np.inf)
        before = np.full(costs.shape[1], -1)  # the column from which a path comes to each
        reached = np.zeros(costs.shape[1], dtype=bool)
        row, column, length = first, -1, 0.0
        while row >= 0:
            paths = length + costs[row] - row_potentials[row] - column_potentials
            better = ~reached & (paths < shortest)
            shortest[better], before[better] = paths[better], column
            column = int(np.where(reached, np.inf, shortest).argmin())
            length = shortest[column]
            reached[column] = True
            row = row_of[column]
        inner = reached & (row_of >= 0)
        row_potentials[first] += length
        row_potentials[row_of[inner]] += length - shortest[inner]
        column_potentials[inner] -= length - shortest[inner]
        while column >= 0:
            row_of[column] = first if before[column] < 0 else row_of[before[column]]
            column = before[column]
    return sorted((int(row), column) for column, row in enumerate(row_of) if row >= 0)
