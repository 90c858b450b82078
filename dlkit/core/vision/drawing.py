"""Labels in images, legible on any background and at any size."""

import colorsys

from PIL import ImageDraw, ImageFont

TEXT_SHARE = 1 / 32  # of a picture's side
SMALLEST_TEXT, LARGEST_TEXT = 11, 64

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def color(number: int, saturation: float = 0.85, value: float = 0.95) -> Color:
    """A color for each number, with a hue far from those of its neighbors."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def text_size(side: int) -> int:
    """The height in pixels of a line of text for an image of this side."""
    return round(min(max(side * TEXT_SHARE, SMALLEST_TEXT), LARGEST_TEXT))


def draw_text(
    canvas: ImageDraw.ImageDraw,
    text: str,
    x: float,
    y: float,
    shade: Color,
    font: Font,
    size: tuple[int, int],
) -> None:
    """Draw text on a filled plate above (x, y), moved to stay inside the image."""
    left, top, right, bottom = font.getbbox(text)
    width, height = right - left + 6, bottom - top + 6
    x = max(0, min(x, size[0] - width))
    y = y - height if y >= height else min(y, max(0, size[1] - height))
    canvas.rectangle((x, y, x + width, y + height), fill=shade)
    luminance = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2]
    ink = "black" if luminance > 140 else "white"
    canvas.text((x + 3 - left, y + 3 - top), text, fill=ink, font=font)
