"""FID, KID, precision, recall and diversity, against formulas and others' code."""

import numpy as np
import pytest
import torch

from dlkit.gan_sample.metrics import (
    DEFINITIONS,
    Moments,
    distances,
    diversity,
    frechet_distance,
    kernel_distance,
    kernel_distance_interval,
    mean_distance,
    moments,
    precision_and_recall,
)


def normal(seed: int, count: int, size: int = 8, shift: float = 0.0) -> np.ndarray:
    """Descriptors (N, D) whose numbers depend on each other."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(size, size)) / size**0.5 + np.eye(size)
    drawn: np.ndarray = rng.normal(size=(count, size)) @ mix + shift
    return drawn


def test_the_distance_of_two_gaussians_in_one_dimension() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2."""
    first = Moments(np.array([1.0]), np.array([[4.0]]))
    second = Moments(np.array([3.5]), np.array([[9.0]]))
    assert frechet_distance(first, second) == pytest.approx(2.5**2 + 1)


def test_the_distance_of_gaussians_with_one_pair_of_axes() -> None:
    """Covariances that commute: the sum over the axes of the same formula."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    deviations = np.array([[1.0, 2.0, 3.0, 0.0], [2.0, 2.0, 0.5, 1.0]])
    first, second = (
        Moments(mean, turn @ np.diag(s**2) @ turn.T)
        for mean, s in zip([np.zeros(4), np.ones(4)], deviations, strict=True)
    )
    expected = 4 + ((deviations[0] - deviations[1]) ** 2).sum()
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_fid_is_scipys_root_of_the_product() -> None:
    scipy = pytest.importorskip("scipy.linalg")
    first, second = moments(normal(1, 500)), moments(normal(2, 300, shift=0.3))
    root = scipy.sqrtm(first.covariance @ second.covariance).real
    difference = first.mean - second.mean
    traces = np.trace(first.covariance + second.covariance - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(difference @ difference + traces)


def test_fid_and_kid_are_torch_fidelitys() -> None:
    metrics = pytest.importorskip("torch_fidelity")
    real, made = normal(1, 400), normal(2, 400, shift=0.2)
    fid = metrics.metric_fid
    theirs = fid.fid_statistics_to_metric(
        fid.fid_features_to_statistics(torch.tensor(real)),
        fid.fid_features_to_statistics(torch.tensor(made)),
        verbose=False,
    )
    assert frechet_distance(moments(real), moments(made)) == pytest.approx(
        theirs["frechet_inception_distance"], rel=1e-3
    )
    kid = metrics.metric_kid.kid_features_to_metric(
        torch.tensor(real),
        torch.tensor(made),
        kid_subsets=1,
        kid_subset_size=400,  # all of them, in another order
        verbose=False,
    )
    assert kernel_distance(real, made) == pytest.approx(
        kid["kernel_inception_distance_mean"], rel=1e-3
    )


def test_kid_by_hand() -> None:
    real, made = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])

    def kernel(x: float, y: float) -> float:
        return (x * y + 1) ** 3

    mixed = kernel(1, 0) + kernel(1, 3) + kernel(2, 0) + kernel(2, 3)
    assert kernel_distance(real, made) == pytest.approx(kernel(1, 2) + kernel(0, 3) - mixed / 2)


def test_kid_of_one_distribution_is_zero_on_average() -> None:
    values = [kernel_distance(normal(2 * n, 60), normal(2 * n + 1, 60)) for n in range(60)]
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values)) < 3 * error


def test_the_interval_of_kid_holds_the_truth() -> None:
    """Both samples are of one distribution: the interval has 0 in it, nearly always."""
    held = 0
    for n in range(60):
        value, low, high = kernel_distance_interval(normal(2 * n, 100), normal(2 * n + 1, 100))
        assert low < value < high
        held += low < 0 < high
    assert held >= 54
    _, low, _ = kernel_distance_interval(normal(1, 100), normal(2, 100, shift=1.0))
    assert low > 0
    assert np.isnan(kernel_distance_interval(normal(1, 5), normal(2, 5))[1:]).all()


def test_the_interval_of_kid_does_not_depend_on_the_order() -> None:
    """Folders come class by class: sorted pictures are to have about the interval of mixed ones."""
    real, made = normal(1, 400), normal(2, 400)
    _, low, high = kernel_distance_interval(real, made)
    ordered = real[real[:, 0].argsort()], made[(-made[:, 0]).argsort()]
    _, sorted_low, sorted_high = kernel_distance_interval(*ordered)
    assert 0.4 < (sorted_high - sorted_low) / (high - low) < 2.5


def test_precision_and_recall_by_hand() -> None:
    """Balls to the 1st neighbor, on a line: 0 and 1 reach 1 far, 5 reaches 4 far."""
    real = np.array([[0.0], [1.0], [5.0]])
    made = np.array([[1.5], [9.5], [9.6]])
    # 1.5 is in the ball of 1; 9.5 and 9.6 are beyond 9. Generated balls: 8, 0.1, 0.1.
    precision, recall = precision_and_recall(real, made, neighbors=1)
    assert precision == pytest.approx(1 / 3)
    assert recall == 1.0
    assert precision_and_recall(made, real, neighbors=1) == (1.0, pytest.approx(1 / 3))


def test_precision_and_recall_are_prdcs() -> None:
    prdc = pytest.importorskip("prdc")
    real, made = normal(1, 300), 0.7 * normal(2, 250)
    theirs = prdc.compute_prdc(real, made, nearest_k=3)
    ours = precision_and_recall(real, made)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]))


def test_a_generator_that_repeats_itself_has_no_recall_and_no_diversity() -> None:
    real = normal(1, 200)
    repeated = np.repeat(real[:1], 200, axis=0)
    found = distances(real, repeated)
    assert found["precision"] == 1.0
    assert found["recall"] == pytest.approx(1 / 200)
    assert found["diversity"] == pytest.approx(0, abs=1e-6)
    assert found["fid"] > 1


def test_the_mean_distance_is_over_pairs() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    assert mean_distance(points) == pytest.approx((5 + 8 + 5) / 3)
    assert diversity(points, 2 * points) == pytest.approx(2)


def test_every_distance_is_defined_and_copies_are_perfect() -> None:
    real = normal(1, 100)
    found = distances(real, real.copy())
    assert found.keys() <= DEFINITIONS.keys()
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert (found["precision"], found["recall"]) == (1.0, 1.0)
    assert found["diversity"] == pytest.approx(1)
