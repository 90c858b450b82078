"""Drawing of labeled boxes and of keypoints."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from dlkit.core.io.colors import color, label_colors
from dlkit.core.vision.drawing import Plate, draw_plates, text_size


def draw_boxes(
    picture: Image.Image,
    boxes: Sequence[Sequence[float]],
    names: Sequence[str],
    scores: Sequence[float] | None,
    labels: Sequence[str],
    tracks: Sequence[int] | None = None,
) -> Image.Image:
    """A copy of the picture with each box drawn and labeled; `labels` are all of the model's.

    With `tracks`, each object has its track number instead of its score, and a color by it.
    """
    drawn = picture.convert("RGB")
    canvas = ImageDraw.Draw(drawn)
    line = max(2, text_size(max(drawn.size)) // 8)
    colors = label_colors(labels)
    plates = []
    for index, (name, (x1, y1, x2, y2)) in enumerate(zip(names, boxes, strict=True)):
        text, shade = name, colors[name]
        if tracks is not None:
            text, shade = f"{name} {tracks[index]}", color(tracks[index])
        elif scores is not None:
            text = f"{name} {scores[index]:.2f}"
        plates.append(Plate(text, shade, (x1, y1, x2, y2)))
    # The best boxes come first and are drawn last, on top.
    for _, shade, (x1, y1, x2, y2) in reversed(plates):
        # A dark line outside the bright one shows on any background.
        canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=line + 2)
        canvas.rectangle((x1, y1, x2, y2), outline=shade, width=line)
    draw_plates(drawn, plates)
    return drawn


def draw_keypoints(
    picture: Image.Image,
    points: Sequence[Sequence[float]],
    names: Sequence[str],
    skeleton: Sequence[tuple[int, int]] = (),
) -> Image.Image:
    """A copy of the picture with the keypoints (x, y) marked and named, and lines between them.

    Keypoints that are nan are not drawn.
    """
    drawn = picture.convert("RGB")
    canvas = ImageDraw.Draw(drawn)
    radius = max(3, text_size(max(drawn.size)) // 4)
    known = {index for index, point in enumerate(points) if not any(map(math.isnan, point))}
    for first, second in skeleton:
        if not {first, second} <= known:
            continue
        line = (*points[first], *points[second])
        canvas.line(line, fill="black", width=radius)
        canvas.line(line, fill=color(second), width=max(1, radius // 2))
    plates = [
        Plate(name, color(index), (x - radius, y - radius, x + radius, y + radius))
        for index, ((x, y), name) in enumerate(zip(points, names, strict=True))
        if index in known
    ]
    for _, shade, around in plates:
        canvas.ellipse(around, fill=shade, outline="black", width=max(1, radius // 4))
    draw_plates(drawn, plates)
    return drawn
