"""The way to a painting: pictures now and then, and an animation."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from dlkit.core.io.files import whole_file
from dlkit.core.vision import images

FRAMES = 40  # at most, of the animation
SIDE = 320  # of its frames, at most
FRAME_TIME, LAST_TIME = 80, 1500  # milliseconds


class ProgressRecorder:
    """Saves NAME-0050.jpg beside a painting after `every` steps, and `preview` NAME.gif."""

    def __init__(self, target: Path, every: int, preview: bool, steps: int) -> None:
        self.target, self.every, self.preview = target, every, preview
        self.between = -(-steps // FRAMES)
        self.frames: list[Image.Image] = []

    def see(self, number: int, finished: Callable[[], Image.Image]) -> None:
        """Look at step `number`; `finished` makes its picture, when it is wanted."""
        saved = bool(self.every) and number > 0 and number % self.every == 0
        framed = self.preview and number % self.between == 0
        if not (saved or framed):
            return
        picture = finished()
        if saved:
            name = f"{self.target.stem}-{number:04}{self.target.suffix}"
            images.save(picture, self.target.with_name(name))
        if framed:
            self.frames.append(small(picture))

    def save(self, last: Image.Image) -> None:
        """Write the animation, which ends with this picture."""
        if not self.preview:
            return
        frames = [*self.frames, small(last)]
        times = [FRAME_TIME] * len(self.frames) + [LAST_TIME]
        with whole_file(self.target.with_suffix(".gif")) as partial:
            frames[0].save(
                partial,
                format="GIF",
                save_all=True,
                append_images=frames[1:],
                duration=times,
                loop=0,
            )


def small(picture: Image.Image) -> Image.Image:
    if max(picture.size) <= SIDE:
        return picture
    return ImageOps.contain(picture, (SIDE, SIDE))
