"""Results of images as Python shows and saves them, drawn into the image. Loads no torch."""

import base64
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlkit.core.io.files import SAVED_SUFFIXES
from dlkit.core.io.results import Result, save_results

if TYPE_CHECKING:
    from PIL import Image

SHOWN_SIDE = 640  # longest side of a picture in a notebook


class ImageResult(Result):
    """A result of one image: drawn by `picture`, shown by a notebook with its table.

    `draw(image, result)` is the drawing function, which the task's Python function sets.
    """

    path: str
    draw: ClassVar[Any] = None

    def image(self) -> "Image.Image":
        """The image at its full size, upright; it is read again if it came from a file."""
        from dlkit.core.vision import images

        return images.as_pillow(images.read(self.path))

    def picture(self) -> "Image.Image":
        """The image with the result drawn into it, as `--save` draws it."""
        picture: Image.Image = self.image()
        return picture if self.draw is None else self.draw(picture, self)

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write the picture (.jpg, .png, .webp) or the numbers (.json, .jsonl, .csv, .txt).

        Returns the path. Raises DlkitError for another suffix.
        """
        from dlkit.core.vision import images

        target = Path(path)
        if target.suffix.lower() not in SAVED_SUFFIXES:
            return save_results([self], path, sorted(SAVED_SUFFIXES))
        images.save(self.picture(), target)
        return target

    def _repr_html_(self) -> str:
        return html_picture(self.picture()) + super()._repr_html_()


def drawn_by(
    draw: Callable[["Image.Image", Any], "Image.Image"], results: Iterable[Any]
) -> Iterator[Any]:
    """Yield the results, of which each ImageResult gets its drawing function."""
    for result in results:
        if isinstance(result, ImageResult):
            object.__setattr__(result, "draw", draw)  # results are frozen
        yield result


def html_picture(picture: "Image.Image") -> str:
    """An HTML image that holds the picture itself, made smaller if it is large."""
    small = picture.convert("RGB")
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{content}">'
