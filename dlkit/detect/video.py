"""Detection in videos and camera streams, frame by frame."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, note_saved
from dlkit.core.progress import Bar, log
from dlkit.core.vision import video
from dlkit.core.vision.images import Picture, as_pillow
from dlkit.detect.infer import draw_objects, name_objects
from dlkit.detect.options import DEFAULT_OPTIONS, DetectOptions
from dlkit.detect.predictor import Detector, Predictor
from dlkit.detect.results import Crops, Frame, TrackedFrame, number_objects
from dlkit.detect.track import Tracker


def detect_videos(
    paths: Iterable[str],
    detector: Detector,
    options: DetectOptions = DEFAULT_OPTIONS,
    track: bool = False,
    save: Path | None = None,
    crops: Path | None = None,
) -> Iterator[Frame | Failure]:
    """Detect the objects in each frame of each video, in order; a Failure for an unreadable video.

    With `track`, objects have track numbers. `save` is a folder for the videos with boxes drawn,
    without sound; `crops` is a folder for crops of the objects of each frame.
    """
    predictor = Predictor(detector, options)
    names = None if save is None else FileNames(save)
    return detect_each(paths, predictor, track, names, None if crops is None else Crops(crops))


def detect_each(
    paths: Iterable[str],
    predictor: Predictor,
    track: bool,
    names: FileNames | None,
    crops: Crops | None,
) -> Iterator[Frame | Failure]:
    for path in paths:
        try:
            yield from detect_video(path, predictor, Tracker() if track else None, names, crops)
        except DlkitError as error:
            yield Failure(path, error.reason_for(path))


def detect_video(
    path: str,
    predictor: Predictor,
    tracker: Tracker | None,
    names: FileNames | None,
    crops: Crops | None,
) -> Iterator[Frame | Failure]:
    labels = predictor.detector.labels
    name = path.replace(":", "-") if video.is_camera(path) else path
    # Results of a camera are printed at once.
    options = predictor.options
    batch, ahead = (1, 0) if video.is_camera(path) else (options.batch_size, options.workers)
    result_type = Frame if tracker is None else TrackedFrame
    started, count = time.monotonic(), 0

    def speed() -> str:
        return f"{count / (time.monotonic() - started):.1f} frames per second"

    with ExitStack() as stack:
        clip = stack.enter_context(video.opened(path))
        frames = UntilError(stack.enter_context(video.read_ahead(clip.frames, ahead * batch)))
        recording = None
        if names is not None:
            target = names.path_for(name, ".mp4")
            stack.callback(note_saved, target)
            recording = stack.enter_context(video.recorder(target, clip.rate))
        bar = Bar("detecting", clip.count or None)
        stack.callback(bar.close)
        while chunk := list(islice(frames, batch)):
            pictures = [to_picture(frame) for frame in chunk]
            for frame, picture, found in zip(
                chunk, pictures, predictor.predict_pictures(pictures), strict=True
            ):
                objects = name_objects(found, labels)
                if tracker is not None:
                    objects = number_objects(objects, tracker)
                size, place = (picture.width, picture.height), (frame.number, round(frame.time, 3))
                result = result_type(path, *size, objects, *place)
                shown = as_pillow(picture)
                if recording is not None:
                    recording.add(np.asarray(draw_objects(shown, objects, labels)), frame.time)
                if crops is not None:
                    crops.save(shown, objects, f"{Path(name).stem}-{frame.number:06}.jpg")
                count += 1
                yield result
                bar.advance(speed)
        if count == 0:  # also where Ctrl-C came before a camera's first frame
            raise frames.error or DlkitError("a video without frames")
    log(f"{path}: {count} frames, {speed()}")
    if frames.error is not None:
        yield Failure(path, frames.error.reason_for(path))


class UntilError:
    """Frames up to the first that cannot be read, whose error is kept."""

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


def to_picture(frame: video.Frame) -> Picture:
    height, width = frame.pixels.shape[:2]
    return Picture(torch.from_numpy(frame.pixels).permute(2, 0, 1), width, height)
