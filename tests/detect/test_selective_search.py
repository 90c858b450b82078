"""Selective search against its papers."""

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.detect.boxes import iou
from dlkit.detect.compiled_regions import blur, describe_segments, find_segments, merge_segments
from dlkit.detect.selective_search import LIMIT, SIDE, gaussian, propose
from tests.conftest import scene


def test_blurring_is_a_gaussian_of_that_deviation() -> None:
    spot = np.zeros((21, 21, 1), np.float32)
    spot[10, 10] = 1
    found = blur(spot, gaussian(1.5))[:, :, 0]
    y, x = np.mgrid[:21, :21] - 10
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert (found * x**2).sum() == pytest.approx(1.5**2, rel=0.02)
    assert (found * y**2).sum() == pytest.approx(1.5**2, rel=0.02)
    assert np.allclose(blur(np.full((5, 4, 3), 7.0, np.float32), gaussian(0.8)), 7)


def segments_by_the_book(image: np.ndarray, scale: float) -> np.ndarray:
    """Felzenszwalb and Huttenlocher's algorithm 1 on sets of pixels, as it is written."""
    height, width, _ = image.shape
    edges = [
        (float(np.linalg.norm(image[y, x] - image[v, u])), (y, x), (v, u))
        for y in range(height)
        for x in range(width)
        for v, u in ((y, x + 1), (y + 1, x))
        if v < height and u < width
    ]
    parts = {(y, x): {(y, x)} for y in range(height) for x in range(width)}
    inside = {id(part): 0.0 for part in parts.values()}
    for weight, a, b in sorted(edges):
        one, other = parts[a], parts[b]
        if one is other:
            continue
        if weight <= min(inside[id(p)] + scale / len(p) for p in (one, other)):
            one |= other
            inside[id(one)] = weight
            parts.update(dict.fromkeys(other, one))
    numbers: dict[int, int] = {}
    flat = [parts[y, x] for y in range(height) for x in range(width)]
    for part in flat:
        numbers.setdefault(id(part), len(numbers))
    return np.array([numbers[id(part)] for part in flat]).reshape(height, width)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [50.0, 200.0, 800.0])
def test_segments_are_those_of_the_paper(scale: float) -> None:
    # Gray levels whose differences are told apart by the sorting in steps.
    image = np.random.default_rng(0).integers(0, 64, (7, 9, 1)).astype(np.float32) * 4
    labels, count = find_segments(image, scale, 0)
    expected = segments_by_the_book(image, scale)
    assert 1 < count < 63
    assert (labels == expected).all()


def test_small_segments_join_a_neighbor() -> None:
    image = np.zeros((8, 8, 1), np.float32)
    image[:, 4:] = 200
    image[2, 2] = 100
    assert find_segments(image, 1.0, 0)[1] == 3
    labels, count = find_segments(image, 1.0, 5)
    assert count == 2
    assert (labels == np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 8, axis=0)).all()


@pytest.mark.slow
def test_merging_takes_the_two_most_alike_each_time() -> None:
    """Against the algorithm on masks of pixels, where all is measured anew each time."""
    rng = np.random.default_rng(1)
    # Of unlike sizes, so that no two pairs are equally alike.
    labels = np.arange(20, dtype=np.int32).reshape(4, 5)
    labels = labels.repeat([3, 5, 4, 7], axis=0).repeat([2, 6, 3, 5, 4], axis=1)
    bins = rng.integers(0, 4, (*labels.shape, 3)).astype(np.uint8)
    found = merge_segments(labels, 20, *describe_segments(labels, 20, bins, 4))

    def box(mask: np.ndarray) -> tuple[int, int, int, int]:
        y, x = mask.nonzero()
        return x.min(), y.min(), x.max() + 1, y.max() + 1

    def histogram(mask: np.ndarray) -> np.ndarray:
        each = [np.bincount(bins[mask][:, c], minlength=4) for c in range(3)]
        return np.concatenate(each) / mask.sum() / 3

    def likeness(a: np.ndarray, b: np.ndarray) -> float:
        x1, y1, x2, y2 = box(a | b)
        both = a.sum() + b.sum()
        color = np.minimum(histogram(a), histogram(b)).sum()
        return color + 1 - both / labels.size + 1 - ((x2 - x1) * (y2 - y1) - both) / labels.size

    def touch(a: np.ndarray, b: np.ndarray) -> bool:
        grown = a.copy()
        grown[1:] |= a[:-1]
        grown[:-1] |= a[1:]
        grown[:, 1:] |= a[:, :-1]
        grown[:, :-1] |= a[:, 1:]
        return bool((grown & b).any())

    masks = [labels == k for k in range(20)]
    expected = [box(mask) for mask in masks]
    while len(masks) > 1:
        pairs = [
            (likeness(a, b), i, k)
            for i, a in enumerate(masks)
            for k, b in enumerate(masks[:i])
            if touch(a, b)
        ]
        _, i, k = max(pairs)
        masks = [m for n, m in enumerate(masks) if n not in (i, k)] + [masks[i] | masks[k]]
        expected.append(box(masks[-1]))
    assert found.tolist() == [list(map(float, corners)) for corners in expected]


@pytest.mark.slow
def test_proposals_meet_the_objects_of_a_scene() -> None:
    image, objects = scene(3)
    boxes = torch.from_numpy(propose(np.asarray(image)))
    truth = torch.tensor([box for _, box in objects]).double()
    overlaps = iou(truth[:, None], boxes[None]).amax(dim=1)
    assert (overlaps > 0.8).all()
    assert len(boxes) <= LIMIT
    assert len(boxes.unique(dim=0)) == len(boxes)


def test_a_large_image_is_searched_small_and_its_boxes_are_in_its_pixels() -> None:
    image, _ = scene(3)
    large = image.resize((4 * SIDE, 3 * SIDE), Image.Resampling.NEAREST)
    boxes = propose(np.asarray(large))
    assert boxes[:2].max() == pytest.approx(4 * SIDE)
    assert boxes[:, 3].max() == pytest.approx(3 * SIDE)
    assert len(propose(np.full((40, 30, 3), 9, np.uint8))) == 1  # one color, one segment
