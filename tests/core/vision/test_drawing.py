"""Plates of labels: inside the picture, apart, readable."""

import random

import numpy as np
import pytest
from PIL import Image

from dlkit.core.io.colors import color
from dlkit.core.vision.drawing import Box, Plate, draw_plates, place_plates, readable_on

Rectangle = tuple[int, int, int, int]


def random_boxes(number: int, width: int, height: int, seed: int) -> list[Box]:
    """Boxes of all sizes, some of which reach beyond the picture."""
    draw = random.Random(seed)
    boxes = []
    for _ in range(number):
        x, y = draw.uniform(-9, width), draw.uniform(-9, height)
        boxes.append((x, y, x + draw.expovariate(6 / width), y + draw.expovariate(6 / height)))
    return boxes


def plates_of(
    boxes: list[Box], sizes: list[tuple[int, int]], picture: tuple[int, int]
) -> list[Rectangle]:
    places = place_plates(boxes, sizes, picture)
    return [(x, y, x + w, y + h) for (x, y), (w, h) in zip(places, sizes, strict=True)]


def inside(plate: Rectangle, width: int, height: int) -> bool:
    x1, y1, x2, y2 = plate
    return 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height


def overlap(one: Rectangle, other: Rectangle) -> bool:
    return (
        one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_plates_do_not_cover_each_other_where_there_is_room(seed: int) -> None:
    draw = random.Random(seed)
    width, height = draw.choice([(640, 480), (300, 900), (1200, 200)])
    # A plate blocks at most (w + w') x (h + h') places of another: these leave a free one.
    sizes = [(draw.randint(20, 90), 16) for _ in range(40)]
    boxes = random_boxes(40, width, height, seed)
    plates = plates_of(boxes, sizes, (width, height))
    for number, plate in enumerate(plates):
        assert inside(plate, width, height)
        assert not any(overlap(plate, other) for other in plates[:number])


def test_the_first_plate_is_above_its_box_and_the_next_near_it() -> None:
    box = (100.0, 100.0, 200.0, 200.0)
    first, second = place_plates([box, box], [(50, 16)] * 2, (400, 400))
    assert first == (100, 84)
    assert second == (150, 84)


@pytest.mark.parametrize("box", [(0, 0, 50, 50), (0, 0, 400, 300), (380, 290, 420, 330)])
def test_a_plate_stays_inside(box: Box) -> None:
    ((x, y),) = place_plates([box], [(60, 16)], (400, 300))
    assert inside((x, y, x + 60, y + 16), 400, 300)


def test_without_room_every_plate_is_still_inside() -> None:
    plates = plates_of(random_boxes(30, 60, 40, 1), [(50, 16)] * 30, (60, 40))
    assert all(inside(plate, 60, 40) for plate in plates)


def plate_pixels(side: int, number: int) -> int:
    """How many pixels the plates of this many objects change in a gray picture."""
    picture = Image.new("RGB", (side, side), (90, 90, 90))
    plates = [Plate("cat 0.50", color(0), box) for box in random_boxes(number, side, side, number)]
    draw_plates(picture, plates)
    return int((np.array(picture) != 90).any(axis=2).sum())


def test_text_grows_with_the_picture_and_shrinks_in_a_crowd() -> None:
    assert plate_pixels(1600, 1) > 5 * plate_pixels(400, 1)
    assert plate_pixels(600, 60) < 0.8 * 60 * plate_pixels(600, 1)


def test_text_wider_than_the_picture_is_cut() -> None:
    picture = Image.new("RGB", (40, 40), (90, 90, 90))
    draw_plates(picture, [Plate("a very long label", (255, 255, 255), (0, 20, 40, 40))])
    pixels = np.array(picture)
    assert (pixels[:20] == 255).all(axis=2).sum() > 200  # the plate
    assert (pixels[:20] < 60).all(axis=2).any()  # its text


@pytest.mark.parametrize("shade", [color(n) for n in range(12)] + [(70, 70, 70), (0, 0, 142)])
def test_the_text_contrasts_with_its_plate(shade: tuple[int, int, int]) -> None:
    def luminance(rgb: tuple[int, int, int]) -> float:
        return sum(w * (v / 255) ** 2.2 for w, v in zip((0.2126, 0.7152, 0.0722), rgb, strict=True))

    light, dark = sorted([luminance(shade), luminance(readable_on(shade))], reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 4.4  # WCAG's least for text is 4.5
