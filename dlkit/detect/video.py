"""Objects in videos and before cameras, frame by frame."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames
from dlkit.core.progress import Bar, log
from dlkit.core.vision import video
from dlkit.core.vision.images import Picture, as_pillow
from dlkit.detect.infer import drawn, named
from dlkit.detect.predictor import PLAIN, Detector, Method, Predictor
from dlkit.detect.results import Crops, Frame, TrackedFrame, followed
from dlkit.detect.track import Tracker


def watch(
    paths: Iterable[str],
    detector: Detector,
    method: Method = PLAIN,
    track: bool = False,
    save: Path | None = None,
    crops: Path | None = None,
) -> Iterator[Frame | Failure]:
    """The objects in each frame of each video, in order; a Failure for one that cannot be read.

    With `track` they have numbers, those of a video. In the folder `save` is then each video with
    the boxes drawn, without its sound, and in `crops` each object of each frame.
    """
    finder = Predictor(detector, method)
    names = None if save is None else FileNames(save)
    return watched(paths, finder, track, names, None if crops is None else Crops(crops))


def watched(
    paths: Iterable[str],
    finder: Predictor,
    track: bool,
    names: FileNames | None,
    crops: Crops | None,
) -> Iterator[Frame | Failure]:
    for path in paths:
        try:
            yield from watch_one(path, finder, Tracker() if track else None, names, crops)
        except DlkitError as error:
            yield Failure(path, str(error))


def watch_one(
    path: str,
    finder: Predictor,
    tracker: Tracker | None,
    names: FileNames | None,
    crops: Crops | None,
) -> Iterator[Frame | Failure]:
    labels = finder.detector.labels
    name = path.replace(":", "-") if video.is_camera(path) else path
    # What a camera sees is said at once.
    method = finder.method
    batch, ahead = (1, 0) if video.is_camera(path) else (method.batch_size, method.workers)
    kind = Frame if tracker is None else TrackedFrame
    began, count = time.monotonic(), 0

    def speed() -> str:
        return f"{count / (time.monotonic() - began):.1f} frames a second"

    with ExitStack() as stack:
        clip = stack.enter_context(video.opened(path))
        frames = Readable(stack.enter_context(video.read_ahead(clip.frames, ahead * batch)))
        recording = None
        if names is not None:
            target = names.path_for(name, ".mp4")
            recording = stack.enter_context(video.recorder(target, clip.rate))
        bar = Bar("detecting", clip.count or None)
        stack.callback(bar.close)
        while several := list(islice(frames, batch)):
            pictures = [picture_of(frame) for frame in several]
            for frame, picture, found in zip(several, pictures, finder.find(pictures), strict=True):
                objects = named(found, labels)
                if tracker is not None:
                    objects = followed(objects, tracker)
                size, place = (picture.width, picture.height), (frame.number, round(frame.time, 3))
                result = kind(path, *size, objects, *place)
                shown = as_pillow(picture)
                if recording is not None:
                    recording.add(np.asarray(drawn(shown, objects, labels)), frame.time)
                if crops is not None:
                    crops.save(shown, objects, f"{Path(name).stem}-{frame.number:06}.jpg")
                count += 1
                yield result
                bar.advance(speed)
        if count == 0:  # also where Ctrl-C came before a camera's first frame
            raise frames.error or DlkitError("a video without pictures")
    log(f"{path}: {count} frames, {speed()}")
    if frames.error is not None:
        yield Failure(path, str(frames.error))


class Readable:
    """Frames up to the first that cannot be read, which is then kept: what was seen is of use."""

    def __init__(self, frames: Iterator[video.Frame]) -> None:
        self.frames = frames
        self.error: DlkitError | None = None

    def __iter__(self) -> Iterator[video.Frame]:
        return self

    def __next__(self) -> video.Frame:
        try:
            return next(self.frames)
        except DlkitError as error:
            self.error = error
            raise StopIteration from None


def picture_of(frame: video.Frame) -> Picture:
    height, width = frame.pixels.shape[:2]
    return Picture(torch.from_numpy(frame.pixels).permute(2, 0, 1), width, height)
