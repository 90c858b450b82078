"""Drawing of label maps and masks: palette images, overlays, legends.

Shapes: label maps are uint8 (H, W), the class index of each pixel.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dlkit.core.vision.drawing import Color, color, draw_text, text_size
from dlkit.segment.masks import IGNORED

OPACITY = 0.55  # of the colors over the image
# Saturation and value in rotation, so that colors with similar hues, eight apart, differ in these.
SHADES = [(0.85, 0.95), (0.5, 0.95), (0.9, 0.6)]


def palette(classes: int) -> list[Color]:
    """The 256 colors of a PNG palette: one per class, then black up to IGNORED."""
    colors = [color(number, *SHADES[number % len(SHADES)]) for number in range(classes)]
    return [*colors, *[(0, 0, 0)] * (IGNORED + 1 - classes)]


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


def add_legend(picture: Image.Image, entries: Sequence[tuple[str, Color]]) -> Image.Image:
    """The image with a legend of its colors below it."""
    size = text_size(picture.width)
    font = ImageFont.load_default(size)
    line, gap = round(1.5 * size), size // 2
    places, x, y = [], gap, gap
    for name, _ in entries:
        width = size + gap + round(font.getlength(name)) + 2 * gap
        if x > gap and x + width > picture.width:
            x, y = gap, y + line
        places.append((x, y))
        x += width
    if not places:
        return picture
    sheet = Image.new("RGB", (picture.width, picture.height + y + line), "white")
    sheet.paste(picture)
    canvas = ImageDraw.Draw(sheet)
    for (name, shade), (x, below) in zip(entries, places, strict=True):
        top = picture.height + below
        canvas.rectangle((x, top, x + size, top + size), fill=shade, outline="black")
        canvas.text((x + size + gap, top + size / 2), name, fill="black", font=font, anchor="lm")
    return sheet


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
    canvas = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(text_size(max(drawn.size)))
    for number in reversed(range(len(masks))):
        rows, columns = np.nonzero(masks[number])
        if rows.size:
            name = names[number]
            text = name if scores is None else f"{name} {scores[number]:.2f}"
            x, y = int(columns.min()), int(rows.min())
            draw_text(canvas, text, x, y, color(number), font, drawn.size)
    return drawn
