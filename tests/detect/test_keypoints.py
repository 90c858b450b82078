"""Errors of keypoints."""

import numpy as np
import pytest

from dlkit.detect.keypoints import distances

NAN = float("nan")


def test_distances_by_hand() -> None:
    """In an image 100 wide, keypoints 40 apart: off by 3, 5 and unknown; then one alone."""
    truth = np.array([[[10.0, 10], [50, 20], [NAN, NAN]], [[8, 8], [NAN, NAN], [NAN, NAN]]])
    points = truth + np.array([[[3.0, 0], [3, -4], [1, 1]], [[0, 20], [0, 0], [0, 0]]])
    found = distances(points, truth, np.array([[100, 60], [40, 200]]))
    assert found.of_image[0, :2].tolist() == pytest.approx([0.03, 0.05])
    assert found.of_object[0, :2].tolist() == pytest.approx([3 / 40, 5 / 40])
    assert found.scores() == pytest.approx({"distance": (0.03 + 0.05 + 0.1) / 3, "pck_0.1": 0.5})
    first, second, third = (own.scores() for own in found.each())
    assert first == pytest.approx({"distance": (0.03 + 0.1) / 2, "pck_0.1": 1.0})
    assert second == pytest.approx({"distance": 0.05, "pck_0.1": 0.0})
    assert np.isnan([*third.values()]).all()
