"""Labels in images, legible on any background and at any size, which do not cover each other.

A box is x1, y1, x2, y2 in pixels.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dlkit.core.io.colors import Color

TEXT_SHARE = 1 / 32  # of a picture's side
SMALLEST_TEXT, LARGEST_TEXT = 11, 64
PLATES_SHARE = 0.2  # of a picture that plates cover before their text gets smaller

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[float, float, float, float]


class Plate(NamedTuple):
    """A text on a filled plate, and the box that it names."""

    text: str
    shade: Color
    box: Box


def text_size(side: int) -> int:
    """The height in pixels of a line of text for an image of this side."""
    return round(min(max(side * TEXT_SHARE, SMALLEST_TEXT), LARGEST_TEXT))


def draw_plates(picture: Image.Image, plates: Sequence[Plate]) -> None:
    """Draw the plates into the picture beside their boxes; the first get the best places."""
    size = text_size(max(picture.size))
    while True:
        font = ImageFont.load_default(size)
        margin = max(2, size // 5)
        top, bottom = font.getbbox("Ag|")[1::2]  # of any text: plates of one height align
        texts = [shorten(plate.text, picture.width - 2 * margin - 1, font) for plate in plates]
        height = round(bottom - top) + 2 * margin
        sizes = [(round(font.getlength(text)) + 2 * margin, height) for text in texts]
        covered = sum(width * height for width, height in sizes)
        if size <= SMALLEST_TEXT or covered <= PLATES_SHARE * picture.width * picture.height:
            break
        size -= 1
    canvas = ImageDraw.Draw(picture)
    places = place_plates([plate.box for plate in plates], sizes, picture.size)
    for plate, (x, y), (width, height) in zip(plates, places, sizes, strict=True):
        if gap_between((x, y, x + width, y + height), plate.box) > size:
            ends = x + width / 2, y + height / 2, *center_of(plate.box)
            canvas.line(ends, fill="black", width=max(1, size // 8) + 2)
            canvas.line(ends, fill=plate.shade, width=max(1, size // 8))
    for text, plate, (x, y), (width, height) in zip(texts, plates, places, sizes, strict=True):
        ink = readable_on(plate.shade)
        canvas.rectangle((x, y, x + width - 1, y + height - 1), fill=plate.shade, outline=ink)
        canvas.text((x + margin, y + margin - top), text, fill=ink, font=font)


def readable_on(shade: Color) -> Color:
    """Black or white, whichever has the higher contrast (WCAG 2) on this color."""
    channels = [value / 255 for value in shade]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def shorten(text: str, width: float, font: Font) -> str:
    """The text, cut to fit into `width` pixels."""
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept and font.getlength(f"{text[:kept]}…") > width:
        kept -= 1
    return f"{text[:kept]}…" if kept else ""


def place_plates(
    boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], picture: tuple[int, int]
) -> list[tuple[int, int]]:
    """The upper left corner of each plate, of this width and height, inside the picture.

    Each takes the first place that no earlier one covers: above its box, inside, below, along its
    border, and then the free place nearest to it; without any, the place that covers least.
    """
    placed = np.zeros((0, 4))
    corners = []
    for box, (width, height) in zip(boxes, sizes, strict=True):
        for choices in places_for(box, width, height, picture):
            candidates = np.hstack([choices, choices + [width, height]])
            covered = overlaps(candidates, placed)
            best = int(covered.argmin())
            if covered[best] == 0:
                break
        corners.append((int(choices[best, 0]), int(choices[best, 1])))
        placed = np.vstack([placed, candidates[best]])
    return corners


def places_for(box: Box, width: int, height: int, picture: tuple[int, int]) -> Iterator[np.ndarray]:
    """The places (K, 2) of a plate, best first: beside its box, then anywhere in the picture."""
    x1, y1, x2, y2 = box
    limit = np.array([max(0, picture[0] - width), max(0, picture[1] - height)])
    rows = [y1 - height, y1, y2, y2 - height]  # above, inside at the top, below, inside
    beside = [(x, y) for y in rows for x in (x1, x2 - width)]
    # Along the border, from the upper left corner on.
    steps_x = np.arange(x1, x2 - width, max(1, height // 2))
    steps_y = np.arange(y1, y2 - height, max(1, height // 2))
    beside += [(x, y) for y in rows for x in steps_x]
    beside += [(x, y) for x in (x1, x2 - width, x1 - width, x2) for y in steps_y]
    yield np.clip(np.array(beside), 0, limit).round().astype(int)
    step = max(1, height // 2)
    grid = np.stack(
        np.meshgrid(
            np.append(np.arange(0, limit[0], step), limit[0]),
            np.append(np.arange(0, limit[1], step), limit[1]),
        ),
        axis=-1,
    ).reshape(-1, 2)
    far = np.abs(grid + [width / 2, height / 2] - center_of(box)).sum(axis=1)
    yield grid[np.argsort(far, kind="stable")]


def overlaps(boxes: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """The area (N,) of each box (N, 4) that boxes (P, 4) cover."""
    low = np.maximum(boxes[:, None, :2], placed[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], placed[None, :, 2:])
    covered: np.ndarray = (high - low).clip(min=0).prod(axis=2).sum(axis=1)
    return covered


def center_of(box: Box) -> tuple[float, float]:
    """The center of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def gap_between(one: Box, other: Box) -> float:
    """The larger distance of two boxes in x or y; 0 where they touch."""
    across = max(one[0] - other[2], other[0] - one[2], 0)
    down = max(one[1] - other[3], other[1] - one[3], 0)
    return max(across, down)


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
