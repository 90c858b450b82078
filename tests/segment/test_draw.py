"""Overlays."""

import numpy as np

from dlkit.core.datasets.voc import VOC_CLASSES
from dlkit.segment.draw import draw_overlay, palette
from tests.segment.helpers import picture_of, truth_of


def test_the_overlay_colors_the_chosen_classes_only() -> None:
    labels = truth_of(0)
    picture = picture_of(labels)
    colors = palette(["red", "green", "blue"])
    drawn = np.array(draw_overlay(picture, labels, colors, ["", "green", ""]))[: len(labels)]
    before = np.array(picture)
    assert (drawn[labels != 1] == before[labels != 1]).all()
    mixed = 0.45 * before[labels == 1] + 0.55 * np.array(colors[1])
    assert np.abs(drawn[labels == 1] - mixed).max() <= 1


def test_vocs_classes_have_vocs_colors() -> None:
    colors = dict(zip(VOC_CLASSES, palette(VOC_CLASSES), strict=False))
    assert colors["background"] == (0, 0, 0)
    assert colors["aeroplane"] == (128, 0, 0)
    assert colors["person"] == (192, 128, 128)
    assert colors["tvmonitor"] == (0, 64, 128)
