"""Paintings in memory, as Python gets them. Loads no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dlkit.core.vision.results import ImageResult

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class StyledPicture(ImageResult):
    """A photograph painted in a style; `picture()` is the painting, `image()` the photograph."""

    painting: ClassVar["Image.Image | None"] = None  # set with each; not part of the record

    path: str
    style: str
    width: int
    height: int

    def picture(self) -> "Image.Image":
        """The painting."""
        return self.image() if self.painting is None else self.painting


@dataclass(frozen=True)
class OptimizedPicture(StyledPicture):
    """A painting by optimization, with the final weighted losses of content and style."""

    steps: int
    content_loss: float
    style_loss: float


def with_painting(result: StyledPicture, painting: "Image.Image") -> StyledPicture:
    """The result, which holds its painting from now on."""
    object.__setattr__(result, "painting", painting)  # results are frozen
    return result
