"""How close generated pictures come to real ones, from descriptors of both, in numpy.

Shapes: N real and M generated pictures, D numbers of a descriptor.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NEIGHBORS = 3  # that make the balls of precision and recall
BLOCKS = 10  # that the interval of KID comes from
T_95 = 2.262  # of Student's t with BLOCKS - 1 degrees of freedom, two-sided
CHUNK = 1024  # rows of a distance matrix that are held at once
COLLAPSED = 0.5  # diversity below which a generator makes hardly more than one picture

DEFINITIONS = {
    "fid": "Frechet distance of Gaussians fitted to the descriptors (Heusel et al. 2017);"
    " 0 is best, and fewer pictures make it larger.",
    "kid": "Squared maximum mean discrepancy, unbiased, with the kernel (x y / D + 1)^3"
    " (Binkowski et al. 2018); 0 is best, whatever the number of pictures.",
    "kid_low": f"Lower end of KID's 95 % interval, from {BLOCKS} parts that share no picture.",
    "kid_high": f"Upper end of KID's 95 % interval, from {BLOCKS} parts that share no picture.",
    "precision": f"Share of generated pictures within the {NEIGHBORS} nearest neighbors' ball of"
    " a real one (Kynkaanniemi et al. 2019): how good they are.",
    "recall": f"Share of real pictures within the {NEIGHBORS} nearest neighbors' ball of a"
    " generated one (Kynkaanniemi et al. 2019): how much of the real ones there is.",
    "diversity": "Mean distance of two generated pictures' descriptors, over that of two real ones;"
    f" a generator below {COLLAPSED} has collapsed.",
    "class_accuracy": "Share of generated pictures that the classifier gives the class asked for.",
}


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance (D, D) of descriptors."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(descriptors: np.ndarray) -> Moments:
    """Of descriptors (N, D), N at least 2; the covariance is the unbiased one."""
    values = descriptors.astype(np.float64)
    return Moments(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982).

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which
    is symmetric, so that no imaginary part has to be thrown away.
    """
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ second.covariance @ root).clip(min=0)
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    difference = first.mean - second.mean
    return float(max(difference @ difference + traces - 2 * np.sqrt(shared).sum(), 0.0))


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """KID: the unbiased squared maximum mean discrepancy of descriptors (N, D) and (M, D)."""

    def mean_kernel(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        total = 0.0
        for start in range(0, len(a), CHUNK):
            kernel = (a[start : start + CHUNK] @ b.T / a.shape[1] + 1) ** 3
            total += kernel.sum()
            if same:
                rows = np.arange(len(kernel))
                total -= kernel[rows, start + rows].sum()
        return total / (len(a) * (len(a) - 1) if same else len(a) * len(b))

    real, made = real.astype(np.float64), made.astype(np.float64)
    both = mean_kernel(real, real, True) + mean_kernel(made, made, True)
    return both - 2 * mean_kernel(real, made, False)


def kernel_distance_interval(real: np.ndarray, made: np.ndarray) -> tuple[float, float, float]:
    """KID of all descriptors, and the ends of a 95 % interval around it.

    The deviation is that of BLOCKS parts that share no picture, over the root of their number: of
    the parts' mean, that is, which varies rather more than the value from all pairs. nan where
    there are fewer than two pictures a part.
    """
    value = kernel_distance(real, made)
    if min(len(real), len(made)) < 2 * BLOCKS:
        return value, math.nan, math.nan
    rng = np.random.default_rng(0)  # pictures often come sorted, by class
    mixed = (values[rng.permutation(len(values))] for values in (real, made))
    pairs = zip(*(np.array_split(values, BLOCKS) for values in mixed), strict=True)
    parts = [kernel_distance(first, second) for first, second in pairs]
    margin = T_95 * float(np.std(parts, ddof=1)) / math.sqrt(BLOCKS)
    return value, value - margin, value + margin


def precision_and_recall(
    real: np.ndarray, made: np.ndarray, neighbors: int = NEIGHBORS
) -> tuple[float, float]:
    """Kynkaanniemi et al. 2019, equations 1 and 2; precision, then recall."""
    return share_inside(real, made, neighbors), share_inside(made, real, neighbors)


def share_inside(centers: np.ndarray, points: np.ndarray, neighbors: int) -> float:
    """The share of the points in the ball of any center, to its `neighbors`-th neighbor."""
    centers, points = centers.astype(np.float64), points.astype(np.float64)
    radii = np.concatenate(
        [
            np.partition(squares, neighbors, axis=1)[:, neighbors]  # the 0th is itself
            for squares in squared_distances(centers, centers)
        ]
    )
    # Rounding is not to put a point outside of its own copy's ball of no radius.
    inside = [
        (squares <= radii + 1e-9).any(axis=1) for squares in squared_distances(points, centers)
    ]
    return float(np.concatenate(inside).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """(N, M) between rows of `a` and `b`, in chunks of rows."""
    norms = (b * b).sum(axis=1)
    for start in range(0, len(a), CHUNK):
        part = a[start : start + CHUNK]
        squares = (part * part).sum(axis=1)[:, None] + norms - 2 * part @ b.T
        yield squares.clip(min=0)


def mean_distance(descriptors: np.ndarray) -> float:
    """The mean Euclidean distance of two different rows (N, D)."""
    values = descriptors.astype(np.float64)
    total = sum(float(np.sqrt(squares).sum()) for squares in squared_distances(values, values))
    return total / (len(values) * (len(values) - 1))


def diversity(real: np.ndarray, made: np.ndarray) -> float:
    """The mean distance of two generated pictures over that of two real ones."""
    of_real = mean_distance(real)
    return mean_distance(made) / of_real if of_real else math.nan


def distances(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """All that DEFINITIONS lists, but the class accuracy."""
    kid, low, high = kernel_distance_interval(real, made)
    precision, recall = math.nan, math.nan
    if min(len(real), len(made)) > NEIGHBORS:
        precision, recall = precision_and_recall(real, made)
    return {
        "fid": frechet_distance(moments(real), moments(made)),
        "kid": kid,
        "kid_low": low,
        "kid_high": high,
        "precision": precision,
        "recall": recall,
        "diversity": diversity(real, made),
    }
