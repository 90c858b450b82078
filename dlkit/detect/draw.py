"""Boxes and their labels drawn into pictures, legible on any background and at any size."""

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

TEXT_SHARE = 1 / 32  # of the picture's longest side
SMALLEST_TEXT, LARGEST_TEXT = 11, 64


def colour(label: str, labels: Sequence[str]) -> tuple[int, int, int]:
    """A colour of its own for each label, far from its neighbours' on the wheel."""
    place = labels.index(label) * 0.618034 % 1
    red, green, blue = colorsys.hsv_to_rgb(place, 0.85, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)


def draw_boxes(
    picture: Image.Image,
    boxes: Sequence[Sequence[float]],
    names: Sequence[str],
    scores: Sequence[float] | None,
    labels: Sequence[str],
) -> Image.Image:
    """A copy of the picture with each box framed and named; `labels` are all the model knows."""
    drawn = picture.convert("RGB")
    canvas = ImageDraw.Draw(drawn)
    text_size = round(min(max(max(drawn.size) * TEXT_SHARE, SMALLEST_TEXT), LARGEST_TEXT))
    font = ImageFont.load_default(text_size)
    line = max(2, text_size // 8)
    # The best come first and are drawn last, on top.
    for index in reversed(range(len(boxes))):
        x1, y1, x2, y2 = boxes[index]
        shade = colour(names[index], labels)
        # A dark line outside the bright one shows on any background.
        canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=line + 2)
        canvas.rectangle((x1, y1, x2, y2), outline=shade, width=line)
        text = names[index] if scores is None else f"{names[index]} {scores[index]:.2f}"
        draw_text(canvas, text, x1, y1, shade, font, drawn.size)
    return drawn


def draw_text(
    canvas: ImageDraw.ImageDraw,
    text: str,
    x: float,
    y: float,
    shade: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """Text on a filled ground above (x, y), moved to stay inside the picture."""
    left, top, right, bottom = font.getbbox(text)
    width, height = right - left + 6, bottom - top + 6
    x = max(0, min(x, size[0] - width))
    y = y - height if y >= height else min(y, max(0, size[1] - height))
    canvas.rectangle((x, y, x + width, y + height), fill=shade)
    luminance = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2]
    ink = "black" if luminance > 140 else "white"
    canvas.text((x + 3 - left, y + 3 - top), text, fill=ink, font=font)
