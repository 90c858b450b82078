"""Sentences below pictures."""

from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from dlkit.core.vision.drawing import Font, text_size

NARROWEST = 200  # pixels of a sheet: words need some room


def captioned(picture: Image.Image, sentences: Sequence[str]) -> Image.Image:
    """The picture on a white sheet, with the sentences below, each from a line of its own on."""
    width = max(picture.width, NARROWEST)
    size = text_size(max(picture.size))
    font = ImageFont.load_default(size)
    margin, line = size // 2, round(1.4 * size)
    lines = [part for text in sentences for part in wrapped(text, width - 2 * margin, font)]
    height = picture.height + line * len(lines) + 2 * margin
    sheet = Image.new("RGB", (width, height), "white")
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    canvas = ImageDraw.Draw(sheet)
    for number, text in enumerate(lines):
        place = margin, picture.height + margin + number * line
        canvas.text(place, text, fill="black", font=font)
    return sheet


def wrapped(text: str, width: int, font: Font) -> Iterator[str]:
    """The lines of a text, none wider than that if its words are not."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    if line:
        yield line
