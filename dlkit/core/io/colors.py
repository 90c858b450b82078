"""The colors of labels, the same in pictures and in tables on a terminal. Loads no torch."""

import colorsys
import itertools
import math
from collections.abc import Sequence

Color = tuple[int, int, int]

DISTINCT = 8  # labels that differ by their hues alone
# Saturation and value in rotation, so that later labels with similar hues differ in these.
SHADES = [(0.5, 0.95), (0.85, 0.95), (0.9, 0.6)]
BACKGROUND = "background"
BLACK = (0, 0, 0)
MIN_DISTANCE = 90  # in RGB, of another label's color from those of a street scene
# The colors of Cityscapes (Cordts et al. 2016), for its names and those of CamVid.
STREET: dict[str, Color] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "pavement": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "columnpole": (153, 153, 153),
    "trafficlight": (250, 170, 30),
    "trafficsign": (220, 220, 0),
    "signsymbol": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "tree": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "pedestrian": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
    "bicyclist": (119, 11, 32),
}


def color(number: int, saturation: float = 0.85, value: float = 0.95) -> Color:
    """A color for each number, with a hue far from those of its neighbors."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def label_colors(labels: Sequence[str]) -> dict[str, Color]:
    """The color of each of a model's labels, by its number.

    Those of Pascal VOC and of a street scene have the colors that people know, a background is
    black.
    """
    names = {label: plain(label) for label in labels}
    if {"background", "aeroplane"} <= set(names.values()):
        return {label: voc_color(number) for number, label in enumerate(names)}
    known = {BACKGROUND: BLACK, **(STREET if "road" in names.values() else {})}
    chosen: dict[str, Color] = {}
    for label, name in names.items():
        if name in known and known[name] not in chosen.values():
            chosen[label] = known[name]
    taken = list(chosen.values())
    numbered = (
        shade
        for shade in map(numbered_color, itertools.count())
        if all(distance(shade, other) >= MIN_DISTANCE for other in taken)
    )
    return {label: chosen[label] if label in chosen else next(numbered) for label in names}


def voc_color(number: int) -> Color:
    """The color of a class of Pascal VOC, whose bits are spread over the three channels."""
    red, green, blue = (
        sum((number >> 3 * digit + channel & 1) << 7 - digit for digit in range(3))
        for channel in range(3)
    )
    return red, green, blue


def numbered_color(number: int) -> Color:
    """The color of a label by its number among the model's labels."""
    return color(number) if number < DISTINCT else color(number, *SHADES[number % len(SHADES)])


def plain(label: str) -> str:
    """A label in lower-case letters: Traffic_Light and "traffic light" are the same."""
    return "".join(filter(str.isalpha, label.lower()))


def distance(one: Color, other: Color) -> float:
    """The distance of two colors in RGB."""
    return math.dist(one, other)
