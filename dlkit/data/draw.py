"""Pictures of samples with their annotations drawn."""

from collections.abc import Mapping

from PIL import Image, ImageDraw

from dlkit.core.datasets.samples import Annotation, Sample
from dlkit.core.io.colors import Color
from dlkit.core.vision import images
from dlkit.core.vision.drawing import Plate, draw_plates, text_size


def draw_sample(
    sample: Sample, side: int, colors: Mapping[str, Color], marked: str | None = None
) -> Image.Image:
    """The image with its boxes, polygons and keypoints, with that longest side.

    `colors` are those of the labels. With `marked`, only the annotation at that place is drawn.
    Raises DlkitError for an image that cannot be read.
    """
    picture = images.read(str(sample.path), side)
    drawn = images.as_pillow(picture).convert("RGB")
    scale = drawn.width / picture.width
    annotations = [a for a in sample.annotations if marked is None or a.where == marked]
    canvas = ImageDraw.Draw(drawn)
    line = max(1, text_size(max(drawn.size)) // 8)
    plates = []
    for annotation in annotations:
        shade = colors[annotation.label]
        draw_shapes(canvas, annotation, scale, shade, line)
        if annotation.box is not None and ordered(annotation.box):
            x1, y1, x2, y2 = (value * scale for value in annotation.box)
            canvas.rectangle((x1, y1, x2, y2), outline=shade, width=line)
            plates.append(Plate(annotation.label, shade, (x1, y1, x2, y2)))
    draw_plates(drawn, plates)
    return drawn


def ordered(box: tuple[float, float, float, float]) -> bool:
    """Whether a box can be drawn."""
    return box[2] >= box[0] and box[3] >= box[1]


def draw_shapes(
    canvas: ImageDraw.ImageDraw, annotation: Annotation, scale: float, shade: Color, line: int
) -> None:
    """Draw the outlines of polygons, and keypoints."""
    for polygon in annotation.polygons:
        corners = [
            (x * scale, y * scale) for x, y in zip(polygon[::2], polygon[1::2], strict=False)
        ]
        if len(corners) > 1:
            canvas.line([*corners, corners[0]], fill=shade, width=line)
    for point in annotation.keypoints:
        if point.visibility:
            x, y, radius = point.x * scale, point.y * scale, 2 * line
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
