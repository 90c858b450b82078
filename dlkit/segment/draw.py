"""Drawing of label maps and masks: palette images, overlays, legends.

Shapes: label maps are uint8 (H, W), the class index of each pixel.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from dlkit.core.io.colors import BLACK, Color, color, label_colors
from dlkit.core.vision.drawing import Plate, add_legend, draw_plates
from dlkit.segment.masks import IGNORED

OPACITY = 0.55  # of the colors over the image


def palette(labels: Sequence[str]) -> list[Color]:
    """The 256 colors of a PNG palette: one per class, then black up to IGNORED."""
    return [*label_colors(labels).values(), *[BLACK] * (IGNORED + 1 - len(labels))]


def indexed_image(labels: np.ndarray, colors: Sequence[Color]) -> Image.Image:
    """A palette image whose pixel values are the class indices."""
    picture = Image.fromarray(labels)
    picture.putpalette([value for shade in colors for value in shade])
    return picture


def draw_overlay(
    picture: Image.Image, labels: np.ndarray, colors: Sequence[Color], names: Sequence[str]
) -> Image.Image:
    """The image blended with the class colors, above a legend of the classes in it.

    `names` has a name for each class; a class with an empty name is not colored.
    """
    colored = indexed_image(labels, colors).convert("RGB")
    blended = Image.blend(picture, colored, OPACITY)
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=IGNORED + 1))
    visible = [k for k in present.tolist() if k < len(names) and names[k]]
    hidden = ~np.isin(labels, visible)
    if hidden.any():
        blended.paste(picture, mask=Image.fromarray(hidden))
    return add_legend(blended, [(names[k], colors[k]) for k in visible])


def draw_errors(picture: Image.Image, truth: np.ndarray, labels: np.ndarray) -> Image.Image:
    """The image in gray; wrong labels are red, ignored pixels black."""
    gray = picture.convert("L").convert("RGB")
    red = Image.blend(gray, Image.new("RGB", gray.size, (255, 0, 0)), 0.8)
    gray.paste(red, mask=Image.fromarray((labels != truth) & (truth != IGNORED)))
    gray.paste((0, 0, 0), mask=Image.fromarray(truth == IGNORED))
    return gray


def draw_masks(
    picture: Image.Image,
    masks: np.ndarray | Sequence[np.ndarray],
    names: Sequence[str],
    scores: Sequence[float] | None,
) -> Image.Image:
    """The image with each object's boolean mask (H, W) in its own color, and its name."""
    drawn = picture.convert("RGB")
    # The best objects come first and are drawn last, on top.
    for number in reversed(range(len(masks))):
        full = Image.new("RGB", drawn.size, color(number))
        drawn.paste(Image.blend(drawn, full, OPACITY), mask=Image.fromarray(masks[number]))
    plates = []
    for number, (name, mask) in enumerate(zip(names, masks, strict=True)):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            box = float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0
            text = name if scores is None else f"{name} {scores[number]:.2f}"
            plates.append(Plate(text, color(number), box))
    draw_plates(drawn, plates)
    return drawn
