"""Drawing of predicted labels: a strip of scores below an image, and a map of labels over it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dlkit.classify.infer import Classification, ClassMap
from dlkit.core.io.colors import label_colors
from dlkit.core.vision.drawing import add_legend, shorten, text_size

MIN_SIDE = 240  # pixels of a saved picture's longest side, so that labels have room
OPACITY = 0.6  # of a color over the image where its label is certain
LEGEND = 12  # most frequent labels in the legend of a map


def draw_scores(picture: Image.Image, found: Classification, labels: Sequence[str]) -> Image.Image:
    """The image above a line for each label of its result: name, score, and a bar of the score."""
    picture = enlarge(picture)
    width = max(picture.width, MIN_SIDE)
    size = text_size(max(picture.size))
    font = ImageFont.load_default(size)
    gap, line = size // 2, round(1.6 * size)
    colors = label_colors(labels)
    below = gap + line * max(1, len(found.labels)) + gap // 2
    sheet = Image.new("RGB", (width, picture.height + below), "white")
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    canvas = ImageDraw.Draw(sheet)
    y = picture.height + gap
    right = width - gap - round(font.getlength("0.00"))
    if not found.labels:
        canvas.text((gap, y), "no label", fill="gray", font=font)
    for prediction in found.labels:
        name = shorten(prediction.label, right - 2 * gap, font)
        canvas.text((gap, y), name, fill="black", font=font)
        canvas.text(
            (width - gap, y), f"{prediction.score:.2f}", fill="black", font=font, anchor="ra"
        )
        bar = y + round(1.25 * size), y + line - 2
        canvas.rectangle((gap, bar[0], width - gap, bar[1]), fill=(225, 225, 225))
        end = gap + round(prediction.score * (width - 2 * gap))
        if end > gap:
            canvas.rectangle((gap, bar[0], end, bar[1]), fill=colors[prediction.label])
        y += line
    return sheet


def draw_map(picture: Image.Image, found: ClassMap, labels: Sequence[str]) -> Image.Image:
    """The image under the colors of the map's labels, strong where a label is probable.

    Each position of the map has the pixels that are nearest to it.
    """
    colors = label_colors(labels)
    rows = nearest(np.array(found.y), picture.height)
    columns = nearest(np.array(found.x), picture.width)
    names = [[colors[label] for label in row] for row in found.labels]
    shades = np.array(names, np.float32)[rows[:, None], columns]
    opacity = OPACITY * np.array(found.scores, np.float32)[rows[:, None], columns, None]
    gray = np.asarray(picture.convert("L"), np.float32)[..., None]
    mixed = gray * (1 - opacity) + shades * opacity
    drawn = enlarge(Image.fromarray(mixed.round().astype(np.uint8)))
    counts = Counter(label for row in found.labels for label in row)
    return add_legend(drawn, [(label, colors[label]) for label, _ in counts.most_common(LEGEND)])


def nearest(centers: np.ndarray, length: int) -> np.ndarray:
    """The number of the nearest center (ascending) for each of `length` pixels."""
    between = (centers[1:] + centers[:-1]) / 2
    found: np.ndarray = np.searchsorted(between, np.arange(length) + 0.5)
    return found


def enlarge(picture: Image.Image) -> Image.Image:
    """The picture with each pixel repeated, if its longest side is short."""
    scale = -(-MIN_SIDE // max(picture.size))
    size = picture.width * scale, picture.height * scale
    return picture if scale == 1 else picture.resize(size, Image.Resampling.NEAREST)
