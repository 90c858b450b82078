"""Drawing of labeled boxes and of keypoints."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from dlkit.core.vision.drawing import color, draw_text, text_size


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
    height = text_size(max(drawn.size))
    font = ImageFont.load_default(height)
    line = max(2, height // 8)
    # The best boxes come first and are drawn last, on top.
    for index in reversed(range(len(boxes))):
        x1, y1, x2, y2 = boxes[index]
        fill = color(labels.index(names[index]) if tracks is None else tracks[index])
        # A dark line outside the bright one shows on any background.
        canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=line + 2)
        canvas.rectangle((x1, y1, x2, y2), outline=fill, width=line)
        text = names[index]
        if tracks is not None:
            text = f"{text} {tracks[index]}"
        elif scores is not None:
            text = f"{text} {scores[index]:.2f}"
        draw_text(canvas, text, x1, y1, fill, font, drawn.size)
    return drawn


def draw_keypoints(
    picture: Image.Image, points: Sequence[Sequence[float]], names: Sequence[str]
) -> Image.Image:
    """A copy of the picture with each keypoint (x, y) marked and named."""
    drawn = picture.convert("RGB")
    canvas = ImageDraw.Draw(drawn)
    height = text_size(max(drawn.size))
    font = ImageFont.load_default(height)
    radius = max(3, height // 4)
    for index, ((x, y), name) in enumerate(zip(points, names, strict=True)):
        fill = color(index)
        around = (x - radius, y - radius, x + radius, y + radius)
        canvas.ellipse(around, fill=fill, outline="black", width=max(1, radius // 4))
        draw_text(canvas, name, x + radius, y - radius, fill, font, drawn.size)
    return drawn
