"""Recording of the progress of a painting: intermediate pictures and an animation."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from dlkit.core.io.files import check_free, note_saved
from dlkit.core.vision import images

FRAMES = 40  # most frames of the animation
SIDE = 320  # longest side of a frame
FRAME_TIME, LAST_TIME = 80, 1500  # milliseconds


class ProgressRecorder:
    """Saves NAME-0050.jpg beside a painting after `every` steps, and `preview` NAME.gif."""

    def __init__(self, target: Path, every: int, preview: bool, steps: int) -> None:
        self.target, self.every, self.preview = target, every, preview
        self.frame_interval = -(-steps // FRAMES)
        self.frames: list[Image.Image] = []
        if preview:
            check_free(self.animation)

    @property
    def animation(self) -> Path:
        """The file of the animation."""
        return self.target.with_suffix(".gif")

    def record(self, number: int, finish: Callable[[], Image.Image]) -> None:
        """Record step `number`; `finish` is called for its picture if it is needed."""
        save_now = bool(self.every) and number > 0 and number % self.every == 0
        add_frame = self.preview and number % self.frame_interval == 0
        if not (save_now or add_frame):
            return
        picture = finish()
        if save_now:
            path = self.target.with_name(f"{self.target.stem}-{number:04}{self.target.suffix}")
            check_free(path)
            images.save(picture, path)
            note_saved(path)
        if add_frame:
            self.frames.append(shrink(picture))

    def save(self, last: Image.Image) -> None:
        """Write the animation, ending with this picture."""
        if not self.preview:
            return
        frames = [*self.frames, shrink(last)]
        times = [FRAME_TIME] * len(self.frames) + [LAST_TIME]
        images.save_gif(frames, self.animation, times)
        note_saved(self.animation)


def shrink(picture: Image.Image) -> Image.Image:
    """The picture at the size of a frame."""
    if max(picture.size) <= SIDE:
        return picture
    return ImageOps.contain(picture, (SIDE, SIDE))
