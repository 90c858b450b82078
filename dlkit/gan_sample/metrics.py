"""FID, KID, precision, recall and diversity of descriptors, in NumPy.

Shapes: N real and M generated pictures, D numbers of a descriptor.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NEIGHBORS = 3  # k of the balls of precision and recall
BLOCKS = 10  # of the confidence interval of KID
T_95 = 2.262  # two-sided quantile of Student's t with BLOCKS - 1 degrees of freedom
CHUNK = 1024  # rows of a distance matrix in memory
COLLAPSED = 0.5  # diversity below which a generator counts as collapsed

DEFINITIONS = {
    "fid": "Frechet distance of Gaussians fitted to the descriptors (Heusel et al. 2017);"
    " 0 is best, and fewer pictures make it larger.",
    "kid": "Squared maximum mean discrepancy, unbiased, with the kernel (x y / D + 1)^3"
    " (Binkowski et al. 2018); 0 is best for any number of pictures.",
    "kid_low": f"Lower end of KID's 95 % interval, from {BLOCKS} disjoint parts.",
    "kid_high": f"Upper end of KID's 95 % interval, from {BLOCKS} disjoint parts.",
    "precision": f"Share of generated pictures within the {NEIGHBORS} nearest neighbors' ball of"
    " a real one (Kynkaanniemi et al. 2019): quality.",
    "recall": f"Share of real pictures within the {NEIGHBORS} nearest neighbors' ball of a"
    " generated one (Kynkaanniemi et al. 2019): coverage.",
    "diversity": "Mean distance of two generated pictures' descriptors, over that of two real ones;"
    f" a generator below {COLLAPSED} has collapsed.",
    "class_accuracy": "Share of generated pictures whose predicted class is the requested one.",
}


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance (D, D) of descriptors."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(descriptors: np.ndarray) -> Moments:
    """Moments of descriptors (N, D), N at least 2, with the unbiased covariance."""
    values = descriptors.astype(np.float64)
    return Moments(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982).

    The trace of the root is computed from the eigenvalues of C1^(1/2) C2 C1^(1/2), which is
    symmetric, so that no imaginary parts arise.
    """
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ second.covariance @ root).clip(min=0)
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    difference = first.mean - second.mean
    return float(max(difference @ difference + traces - 2 * np.sqrt(shared).sum(), 0.0))


def kernel_distance(real: np.ndarray, generated: np.ndarray) -> float:
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

    real, generated = real.astype(np.float64), generated.astype(np.float64)
    both = mean_kernel(real, real, True) + mean_kernel(generated, generated, True)
    return both - 2 * mean_kernel(real, generated, False)


def kernel_distance_interval(real: np.ndarray, generated: np.ndarray) -> tuple[float, float, float]:
    """KID of all descriptors, and the ends of its 95 % confidence interval.

    The interval comes from the standard error of the mean over BLOCKS disjoint parts, a slight
    overestimate for the value from all pairs. nan with fewer than two pictures per part.
    """
    value = kernel_distance(real, generated)
    if min(len(real), len(generated)) < 2 * BLOCKS:
        return value, math.nan, math.nan
    rng = np.random.default_rng(0)  # pictures are often sorted by class
    mixed = (values[rng.permutation(len(values))] for values in (real, generated))
    pairs = zip(*(np.array_split(values, BLOCKS) for values in mixed), strict=True)
    parts = [kernel_distance(first, second) for first, second in pairs]
    margin = T_95 * float(np.std(parts, ddof=1)) / math.sqrt(BLOCKS)
    return value, value - margin, value + margin


def precision_and_recall(
    real: np.ndarray, generated: np.ndarray, neighbors: int = NEIGHBORS
) -> tuple[float, float]:
    """Precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2)."""
    return share_inside(real, generated, neighbors), share_inside(generated, real, neighbors)


def share_inside(centers: np.ndarray, points: np.ndarray, neighbors: int) -> float:
    """The share of points inside any center's ball, which reaches to its k-th nearest neighbor."""
    centers, points = centers.astype(np.float64), points.astype(np.float64)
    radii = np.concatenate(
        [
            np.partition(squares, neighbors, axis=1)[:, neighbors]  # index 0 is the point itself
            for squares in squared_distances(centers, centers)
        ]
    )
    # The tolerance keeps a point inside its own copy's ball of radius 0 despite rounding.
    inside = [
        (squares <= radii + 1e-9).any(axis=1) for squares in squared_distances(points, centers)
    ]
    return float(np.concatenate(inside).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Yield squared distances between the rows of `a` and `b`, (N, M) in chunks of rows."""
    norms = (b * b).sum(axis=1)
    for start in range(0, len(a), CHUNK):
        part = a[start : start + CHUNK]
        squares = (part * part).sum(axis=1)[:, None] + norms - 2 * part @ b.T
        yield squares.clip(min=0)


def mean_distance(descriptors: np.ndarray) -> float:
    """The mean Euclidean distance between two different rows (N, D)."""
    values = descriptors.astype(np.float64)
    total = sum(float(np.sqrt(squares).sum()) for squares in squared_distances(values, values))
    return total / (len(values) * (len(values) - 1))


def diversity(real: np.ndarray, generated: np.ndarray) -> float:
    """The mean distance between generated pictures, relative to real ones."""
    reference = mean_distance(real)
    return mean_distance(generated) / reference if reference else math.nan


def distances(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """All metrics of DEFINITIONS except the class accuracy."""
    kid, low, high = kernel_distance_interval(real, generated)
    precision, recall = math.nan, math.nan
    if min(len(real), len(generated)) > NEIGHBORS:
        precision, recall = precision_and_recall(real, generated)
    return {
        "fid": frechet_distance(moments(real), moments(generated)),
        "kid": kid,
        "kid_low": low,
        "kid_high": high,
        "precision": precision,
        "recall": recall,
        "diversity": diversity(real, generated),
    }
