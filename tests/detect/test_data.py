"""Augmentation: boxes follow the pixels."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.data import MAX_PASTED, DetectionDataset, collate, resize_batch
from dlkit.detect.layouts import AnnotatedSplit, read_split
from dlkit.detect.models.detector import GRAY
from tests.detect.helpers import write

PLAIN: dict[str, Any] = {
    "mosaic": 0.0,
    "zoom": 1.0,
    "color_jitter": 0.0,
    "flip": 0.0,
    "flip_vertical": 0.0,
}


AUGMENTED: dict[str, dict[str, Any]] = {
    "plain": {},
    "flip": {"flip": 1.0},
    "flip_vertical": {"flip_vertical": 1.0},
    "zoom": {"zoom": 2.5},
    "color": {"color_jitter": 0.3},
    "all": {"flip": 0.5, "flip_vertical": 0.5, "zoom": 2.0, "color_jitter": 0.3},
    "mosaic": {"mosaic": 1.0, "flip": 0.5, "flip_vertical": 0.5, "color_jitter": 0.3},
}


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> AnnotatedSplit:
    """Black images of different shapes, each with one white rectangle."""
    root = tmp_path_factory.mktemp("rectangles")
    write(root / "classes.txt", "a\nb\nc\nd\n")
    shapes = [(160, 100), (80, 120), (128, 128), (300, 90)]
    for number, (width, height) in enumerate(shapes):
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        x, y = width // 4 + number, height // 3
        right, bottom = x + width // 3, y + height // 2
        pixels[y:bottom, x:right] = 255
        (root / "images/train").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / f"images/train/{number}.png")
        center = (x + right) / 2 / width, (y + bottom) / 2 / height
        size = (right - x) / width, (bottom - y) / height
        line = " ".join(map(str, [number, *center, *size]))
        write(root / f"labels/train/{number}.txt", line)
    return read_split(root, "train")


def pictures(data: AnnotatedSplit, **settings: Any) -> DetectionDataset:
    config = DetectTrainConfig(data=Path(), image_size=128, **{**PLAIN, **settings})
    return DetectionDataset(data.samples, config)


def white(pixels: np.ndarray) -> np.ndarray:
    """Which pixels are of the white rectangles, whatever became of the colors; gray is darker."""
    values = pixels.mean(axis=0)
    return values > values.min() + 0.75 * (values.max() - values.min())


@pytest.mark.parametrize("name", AUGMENTED)
def test_boxes_follow_the_pixels(name: str, rectangles: AnnotatedSplit) -> None:
    augmented = pictures(rectangles, **AUGMENTED[name])
    random.seed(3)
    seen = 0
    for turn in range(25):
        image, boxes, labels = augmented[turn % 4]
        assert image.shape == (3, 128, 128)
        assert (boxes >= 0).all()
        assert (boxes <= 128).all()
        assert len(labels) == len(boxes)
        bright = white(image.numpy())
        if name != "mosaic" and len(boxes):
            rows, columns = np.nonzero(bright)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(found) - boxes[0].tolist()).max() <= 2, turn
        for x1, y1, x2, y2 in boxes.round().int().tolist():
            assert bright[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all(), turn
            bright[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
        # What has no box is a remnant: a quarter at most of one of the rectangles.
        assert bright.sum() <= 0.25 * len(augmented) * 128 * 128 / 6, turn
        seen += len(boxes)
    assert seen >= 20


def test_the_same_seed_gives_the_same_picture(rectangles: AnnotatedSplit) -> None:
    augmented = pictures(rectangles, mosaic=0.5, zoom=1.6, color_jitter=0.3, flip=0.5)

    def picture(seed: int) -> tuple[np.ndarray, ...]:
        random.seed(seed)
        return tuple(tensor.numpy() for tensor in augmented[1])

    for seed in range(5):
        for first, second in zip(picture(seed), picture(seed), strict=True):
            assert np.array_equal(first, second)
    assert not np.array_equal(picture(0)[0], picture(1)[0])


def test_crowds_are_skipped_and_images_without_boxes_kept(rectangles: AnnotatedSplit) -> None:
    crowd = replace(rectangles.samples[0], crowd=np.array([True]))
    plain = pictures(replace(rectangles, samples=[crowd, rectangles.samples[1]]))
    images, boxes, labels = collate([plain[0], plain[1]])
    assert images.shape == (2, 3, 128, 128)
    assert labels.tolist() == [[-1], [1]]
    assert boxes[0].tolist() == [[0, 0, 0, 0]]
    _, boxes, labels = collate([plain[0]])
    assert boxes.shape == (1, 1, 4)
    assert labels.tolist() == [[-1]]


def test_the_border_is_gray(rectangles: AnnotatedSplit) -> None:
    image, _, _ = pictures(rectangles)[3]
    assert (image[:, 0] == GRAY).all() or (image[:, -1] == GRAY).all()


def test_pasted_objects_have_their_boxes_and_what_they_cover_has_none(
    rectangles: AnnotatedSplit,
) -> None:
    augmented = pictures(rectangles, copy_paste=1.0, zoom=1.3)
    random.seed(0)
    counts, labels_seen, gone = set(), set(), 0
    for turn in range(60):
        image, boxes, labels = augmented[turn % 4]
        bright = white(image.numpy())
        assert len(labels) == len(boxes)
        counts.add(len(boxes))
        labels_seen |= set(labels.tolist())
        gone += int(turn % 4 not in labels.tolist())
        for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            # Edges are blurred, so the middle of a box is looked at.
            width, height = x2 - x1, y2 - y1
            inside = bright[
                round(y1 + 0.2 * height) : round(y2 - 0.2 * height),
                round(x1 + 0.2 * width) : round(x2 - 0.2 * width),
            ]
            assert inside.mean() > 0.7, turn
            for later in boxes[number + 1 :].tolist():
                across = min(x2, later[2]) - max(x1, later[0])
                down = min(y2, later[3]) - max(y1, later[1])
                assert max(0, across) * max(0, down) <= 0.51 * width * height
    assert max(counts) == 1 + MAX_PASTED
    assert labels_seen == {0, 1, 2, 3}
    assert gone, "an object that is covered stays without a box"
    augmented.copy_paste = 0.0
    assert all(len(augmented[index][1]) <= 1 for index in range(4))


def test_copies_come_from_usable_pictures_only(rectangles: AnnotatedSplit) -> None:
    """A crowd is no object, and a picture without objects has none to give."""
    crowd = replace(rectangles.samples[0], crowd=np.array([True]))
    augmented = pictures(replace(rectangles, samples=[crowd]), copy_paste=1.0)
    assert len(augmented[0][1]) == 0


def test_a_batch_of_another_size_keeps_its_boxes_on_the_pixels() -> None:
    random.seed(0)
    image = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    image[:, :, 32:80, 16:96] = 255
    box = torch.tensor([[[16.0, 32, 96, 80]]])
    sides = set()
    for _ in range(60):
        resized, boxes = resize_batch(1.5, image, box)
        assert resized.dtype == torch.uint8
        assert resized.shape[2] == resized.shape[3]
        sides.add(resized.shape[2])
        rows, columns = np.nonzero(resized[0, 0].numpy() > 127)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(found) - boxes[0, 0].numpy()).max() <= 0.5
    assert sides == {96, 128, 160, 192}
