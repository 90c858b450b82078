"""Masks from polygons."""

import math

import numpy as np
import pytest

from dlkit.segment.masks import fill_polygon


def test_a_polygon_holds_the_pixels_whose_centers_it_holds() -> None:
    triangle = np.array([[1.0, 1], [7, 1], [1, 7]])
    y, x = np.mgrid[:9, :9] + 0.5
    expected = (x > 1) & (y > 1) & (x + y < 8)
    assert np.array_equal(fill_polygon(triangle, 9, 9), expected)
    assert np.array_equal(fill_polygon(triangle[::-1], 9, 9), expected)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools and numpy 2
def test_polygons_are_nearly_those_of_pycocotools() -> None:
    coco_masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * math.pi, 12))
    radii = rng.uniform(15, 40, 12)
    corners = np.stack([50 + radii * np.cos(angles), 45 + radii * np.sin(angles)], axis=1)
    (code,) = coco_masks.frPyObjects([corners.reshape(-1).tolist()], 90, 100)
    theirs, ours = coco_masks.decode(code).astype(bool), fill_polygon(corners, 90, 100)
    assert (theirs & ours).sum() / (theirs | ours).sum() > 0.95
