"""Captions drawn below images."""

from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from dlkit.core.vision.drawing import Font, text_size

MIN_WIDTH = 200  # pixels, so that words have room


def draw_captions(image: Image.Image, captions: Sequence[str]) -> Image.Image:
    """The image on a white canvas, with the captions below, each on a new line."""
    width = max(image.width, MIN_WIDTH)
    size = text_size(max(image.size))
    font = ImageFont.load_default(size)
    margin, line_height = size // 2, round(1.4 * size)
    lines = [line for text in captions for line in wrap_text(text, width - 2 * margin, font)]
    height = image.height + line_height * len(lines) + 2 * margin
    sheet = Image.new("RGB", (width, height), "white")
    sheet.paste(image, ((width - image.width) // 2, 0))
    canvas = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        place = margin, image.height + margin + number * line_height
        canvas.text(place, line, fill="black", font=font)
    return sheet


def wrap_text(text: str, width: int, font: Font) -> Iterator[str]:
    """The lines of a text, broken between words; only a single word can be wider than `width`."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    if line:
        yield line
