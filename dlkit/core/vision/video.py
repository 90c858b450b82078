"""Reading videos and cameras, and writing videos, frame by frame; by PyAV (extra `video`)."""

import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dlkit.core.environment import install_command
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file

SUFFIXES = {
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm",
    ".wmv",
}  # fmt: skip
CAMERA = "camera:"
# FFmpeg's name of camera N, its input format, and options.
CAMERAS: dict[str, tuple[str, str, dict[str, str]]] = {
    "linux": ("/dev/video{}", "v4l2", {}),
    "darwin": ("{}", "avfoundation", {"framerate": "30"}),
}
TICKS = 90_000  # per second, in the videos written
ENCODERS = ("libx264", "mpeg4")  # the first that FFmpeg has is used


@dataclass(frozen=True)
class Frame:
    """A picture of a video: its number from 0, seconds since the first, pixels uint8 (H, W, 3)."""

    number: int
    time: float
    pixels: np.ndarray


def is_video(source: str) -> bool:
    """Whether the name is that of a video or a camera; the content is not read."""
    name = urlsplit(source).path if "://" in source else source
    return is_camera(source) or Path(name).suffix.lower() in SUFFIXES


def is_camera(source: str) -> bool:
    """Whether the name is that of a camera."""
    return source.startswith(CAMERA)


def library() -> Any:
    """PyAV. Raises DlkitError with the command that installs it, if it is missing."""
    try:
        import av
    except ImportError as error:
        raise DlkitError(f"videos need PyAV; run {install_command('video')}") from error
    av.logging.set_level(None)  # errors are raised as exceptions
    return av


@dataclass(frozen=True)
class Clip:
    """An open video: its frames, their count by the file (0: unknown) and rate per second."""

    frames: Iterator[Frame]
    count: int
    rate: Fraction


@contextmanager
def opened(source: str) -> Iterator[Clip]:
    """Open the video in a file or behind a URL, or `camera:N`, which is read until Ctrl-C.

    Raises DlkitError, on opening or reading, if it is not a video, damaged or missing.
    """
    av = library()
    try:
        container = av.open(*place(source))
    except FileNotFoundError:
        raise DlkitError("no such camera" if is_camera(source) else "no such file") from None
    except av.error.FFmpegError as error:
        raise DlkitError(f"not a video that dlkit can read ({error.strerror})") from error
    with container:
        if not container.streams.video:
            raise DlkitError("a video without pictures")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        frames = decoded(container, stream, rate, av.error.FFmpegError)
        if is_camera(source):
            with until_interrupted(frames) as frames:
                yield Clip(frames, 0, rate)
        else:
            yield Clip(frames, stream.frames, rate)


def place(source: str) -> tuple[Any, ...]:
    """The arguments of av.open: file, mode, format, options."""
    if not is_camera(source):
        return (source,)
    number = source.removeprefix(CAMERA)
    if not number.isdecimal():
        raise DlkitError("not a camera; give camera:0, camera:1, ...")
    if sys.platform not in CAMERAS:
        raise DlkitError(f"cameras are not supported on {sys.platform}")
    name, format, options = CAMERAS[sys.platform]
    return name.format(number), "r", format, options


def decoded(container: Any, stream: Any, rate: Fraction, wrong: type[Exception]) -> Iterator[Frame]:
    """Yield the frames, rotated as the video's metadata ask for.

    Damaged parts are skipped; at the end they raise a DlkitError.
    """
    number = damaged = 0
    first = 0.0
    for packet in packets(container, stream, wrong):
        try:
            frames = packet.decode()
        except wrong:
            damaged += 1
            continue
        for frame in frames:
            time = float(number / rate) if frame.time is None else frame.time
            first = time if number == 0 else first
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            yield Frame(number, time - first, np.ascontiguousarray(pixels))
            number += 1
    if damaged:
        raise DlkitError(
            f"a damaged video: {damaged} of its parts cannot be read, {number} frames can"
        )
    if number == 0:
        raise DlkitError("a video without pictures")


def packets(container: Any, stream: Any, wrong: type[Exception]) -> Iterator[Any]:
    """Yield the video's packets. Raises DlkitError if the file, the camera or the network fails."""
    try:
        yield from container.demux(stream)
    except wrong as error:
        raise DlkitError(f"the video ends early ({getattr(error, 'strerror', error)})") from error


@contextmanager
def until_interrupted(frames: Iterator[Frame]) -> Iterator[Iterator[Frame]]:
    """Yield the frames until the first Ctrl-C, so that a recording is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield frames  # only the main thread receives signals
        return
    interrupted = False
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)

    def uninterrupted() -> Iterator[Frame]:
        for frame in frames:
            if interrupted:
                return
            yield frame

    signal.signal(signal.SIGINT, stop)
    try:
        yield uninterrupted()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def read_ahead(frames: Iterator[Frame], count: int) -> Iterator[Iterator[Frame]]:
    """Decode up to `count` frames ahead in a thread."""
    if count == 0:
        yield frames
        return
    with ThreadPoolExecutor(1) as pool:

        def ahead() -> Iterator[Frame]:
            waiting = deque(pool.submit(next, frames, None) for _ in range(count))
            while (frame := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, frames, None))
                yield frame

        try:
            yield ahead()
        finally:
            pool.shutdown(cancel_futures=True)


class Recorder:
    """A writer of MP4 files, frame by frame."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.av = library()
        self.container = self.av.open(str(path), "w", format="mp4")
        encoder = next(name for name in ENCODERS if name in self.av.codecs_available)
        self.stream = self.container.add_stream(encoder, rate=rate)
        self.stream.pix_fmt = "yuv420p"  # every player supports it
        self.stream.codec_context.time_base = Fraction(1, TICKS)
        self.last = -1

    def add(self, pixels: np.ndarray, time: float) -> None:
        """Add an image (H, W, 3), all of one size, that is shown from this time (seconds) on."""
        # The encoders need even sides.
        pixels = np.pad(pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)], "edge")
        if self.last < 0:
            self.stream.height, self.stream.width = pixels.shape[:2]
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self.last = max(self.last + 1, round(time * TICKS))
        frame.pts, frame.time_base = self.last, Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Write the frames that the encoder still buffers."""
        if self.last >= 0:
            self.container.mux(self.stream.encode(None))


@contextmanager
def recorder(path: Path, rate: Fraction) -> Iterator[Recorder]:
    """Record a video that appears as `path` on success, and not at all otherwise.

    Raises DlkitError if the encoder fails, for example on images that are too wide.
    """
    with whole_file(path) as partial:
        recording = Recorder(partial, rate)
        try:
            with recording.container:
                yield recording
                recording.finish()
        except recording.av.error.FFmpegError as error:
            raise DlkitError(f"cannot be written as a video ({error.strerror})", path) from error
