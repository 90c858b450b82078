"""Training batches, border weights and class weights."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.core.ledger import Ledger
from dlkit.segment.data import (
    SegmentationDataset,
    border_map,
    class_weights,
    collate,
    number_objects,
)
from dlkit.segment.layouts import AnnotatedImage, read_split
from dlkit.segment.masks import IGNORED, MaskFile, ObjectMask, make_class_table
from tests.segment.helpers import (
    HEIGHT,
    WIDTH,
    folders,
    picture,
    scene,
    settings,
    write,
)


def test_a_batch_pads_with_pixels_that_do_not_count(tmp_path: Path) -> None:
    root = folders(tmp_path)
    write(root / "images/train/1.png", picture(scene(1)[0][:30]))
    write(root / "masks/train/1.png", picture(scene(1)[1][:30]))
    pictures = SegmentationDataset(
        read_split(root, "train").samples, settings(), objects=False, ledger=Ledger()
    )
    images, indices, labels = collate([pictures[0], pictures[1], None])
    assert images.shape == (2, 3, HEIGHT, WIDTH)
    assert (indices[1, 0, 30:] == IGNORED).all()
    assert not (indices[:, 0] == IGNORED)[:, :30].any()
    assert labels.shape == (2, 0)


def test_smaller_images_have_smaller_masks(tmp_path: Path) -> None:
    samples = read_split(folders(tmp_path), "train").samples
    example = SegmentationDataset(samples, settings(image_size=32), objects=True, ledger=Ledger())[
        0
    ]
    assert example is not None
    assert example.image.shape == (3, 24, 32)
    assert torch.equal(example.indices[0], torch.from_numpy(scene(0)[1][1::2, 1::2].copy()))
    # Object 1 is the larger one.
    areas = np.bincount(scene(0)[1].reshape(-1))[1:]
    assert example.labels.tolist() == [1 + int(areas.argmax()), 1 + int(areas.argmin())]


def test_border_weights_are_those_of_brute_force() -> None:
    """Equation 2 of Ronneberger et al. 2015, with the distance to every pixel of every object."""
    rng = np.random.default_rng(0)
    numbers = np.zeros((40, 50), np.uint8)
    for number in range(1, 5):
        y, x = rng.integers(0, 32), rng.integers(0, 42)
        numbers[y : y + 8, x : x + 8] = number
    sigma = 4.0
    own = [np.argwhere(numbers == n) for n in np.unique(numbers) if n]
    expected = np.zeros(numbers.shape)
    for place in np.argwhere(numbers == 0):
        nearest = sorted(np.sqrt(((points - place) ** 2).sum(axis=1)).min() for points in own)
        expected[tuple(place)] = math.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    found = border_map(numbers, sigma) / 255
    assert expected.max() > 0.3
    assert np.abs(found - expected).max() <= 0.5 / 255 + 1e-9


def test_one_object_has_no_border() -> None:
    numbers = np.zeros((9, 9), np.uint8)
    numbers[3:6, 3:6] = 1
    assert not border_map(numbers, 5.0).any()
    assert not border_map(np.zeros_like(numbers), 5.0).any()


def test_objects_are_numbered_the_smaller_in_front() -> None:
    large, small, crowd = np.zeros((3, 4, 4), bool)
    large[:3], small[2:], crowd[:] = True, True, True
    objects = [
        ObjectMask(7, small, 8.0),
        ObjectMask(5, large, 12.0),
        ObjectMask(1, crowd, 16.0, crowd=True),
    ]
    numbers, labels = number_objects(objects, (4, 4))
    assert labels.tolist() == [5, 7]
    assert numbers[:, 0].tolist() == [1, 1, 2, 2]


def sample_of(*pixels: int) -> AnnotatedImage:
    truth = MaskFile(Path("mask.png"), make_class_table([], None, []))
    return AnnotatedImage(Path("image.png"), 10, 10, truth, np.array(pixels))


def test_class_weights_by_hand() -> None:
    samples = [sample_of(60, 40, 0), sample_of(80, 0, 0), sample_of(60, 20, 0)]
    # Class 0 is 200 of 260 pixels, class 1 60 of them; both weigh the same in all.
    inverse = class_weights(samples, "inverse")
    assert inverse.tolist() == pytest.approx([260 / 400, 260 / 120, 0], rel=1e-5)
    # In the images that have it, class 1 is 60 of 180 pixels; 0 is 200 of 260.
    median = class_weights(samples, "median")
    assert median[1] / median[0] == pytest.approx((200 / 260) / (60 / 180), rel=1e-5)
    assert float((median * torch.tensor([200, 60, 0])).sum()) == pytest.approx(260, rel=1e-5)
