"""Videos and cameras in, annotated videos out, frame by frame; by PyAV, the extra `video`."""

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

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file

SUFFIXES = {
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm",
    ".wmv",
}  # fmt: skip
CAMERA = "camera:"
# What FFmpeg calls camera N, the format in which it is read, and what it has to be told.
CAMERAS: dict[str, tuple[str, str, dict[str, str]]] = {
    "linux": ("/dev/video{}", "v4l2", {}),
    "darwin": ("{}", "avfoundation", {"framerate": "30"}),
}
CLOCK = 90_000  # ticks of a second in the videos written
ENCODERS = ("libx264", "mpeg4")  # the first that FFmpeg was built with


@dataclass(frozen=True)
class Frame:
    """A picture of a video: its number from 0, seconds since the first, pixels uint8 (H, W, 3)."""

    number: int
    time: float
    pixels: np.ndarray


def is_video(source: str) -> bool:
    """Whether it is named as a video or a camera is; what is in it is not looked at."""
    name = urlsplit(source).path if "://" in source else source
    return is_camera(source) or Path(name).suffix.lower() in SUFFIXES


def is_camera(source: str) -> bool:
    return source.startswith(CAMERA)


def library() -> Any:
    """PyAV; a DlkitError that says how to install it where it is not."""
    try:
        import av
    except ImportError as error:
        raise DlkitError("videos need PyAV: pip install 'dlkit[video]'") from error
    av.logging.set_level(None)  # what is wrong comes as an exception
    return av


@dataclass(frozen=True)
class Clip:
    """An open video: its frames, how many it says it has (0: unknown), how many a second."""

    frames: Iterator[Frame]
    count: int
    rate: Fraction


@contextmanager
def opened(source: str) -> Iterator[Clip]:
    """The video in a file or behind a URL, or `camera:N`, which goes on until Ctrl-C.

    Raises DlkitError, while it is opened or read, for what is no video, damaged or not there.
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
        raise DlkitError("a camera is camera:0, camera:1, ...")
    if sys.platform not in CAMERAS:
        raise DlkitError(f"dlkit knows no cameras on {sys.platform}")
    name, format, options = CAMERAS[sys.platform]
    return name.format(number), "r", format, options


def decoded(container: Any, stream: Any, rate: Fraction, wrong: type[Exception]) -> Iterator[Frame]:
    """The frames as they are shown: a video may say by how much its pictures are to be turned.

    Damaged parts are passed over, and said in the end.
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
    """The video's parts; a DlkitError where the file, the camera or the network fails."""
    try:
        yield from container.demux(stream)
    except wrong as error:
        raise DlkitError(f"the video breaks off ({getattr(error, 'strerror', error)})") from error


@contextmanager
def until_interrupted(frames: Iterator[Frame]) -> Iterator[Iterator[Frame]]:
    """The frames up to the first Ctrl-C, so that a recording is kept; the second is as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield frames  # only the main thread hears of signals
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
    """The frames, of which up to `count` are decoded ahead in a thread."""
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
    """An MP4 file that is written frame by frame."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.av = library()
        self.container = self.av.open(str(path), "w", format="mp4")
        encoder = next(name for name in ENCODERS if name in self.av.codecs_available)
        self.stream = self.container.add_stream(encoder, rate=rate)
        self.stream.pix_fmt = "yuv420p"  # what every player shows
        self.stream.codec_context.time_base = Fraction(1, CLOCK)
        self.last = -1

    def add(self, pixels: np.ndarray, time: float) -> None:
        """A picture (H, W, 3), all of one size, that is shown from that second on."""
        # The encoders take even sides only.
        pixels = np.pad(pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)], "edge")
        if self.last < 0:
            self.stream.height, self.stream.width = pixels.shape[:2]
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self.last = max(self.last + 1, round(time * CLOCK))
        frame.pts, frame.time_base = self.last, Fraction(1, CLOCK)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds back."""
        if self.last >= 0:
            self.container.mux(self.stream.encode(None))


@contextmanager
def recorder(path: Path, rate: Fraction) -> Iterator[Recorder]:
    """A video that appears as `path` when all went well, and not at all otherwise.

    Raises DlkitError for what the encoder refuses, such as pictures that are too wide.
    """
    with whole_file(path) as partial:
        recording = Recorder(partial, rate)
        try:
            with recording.container:
                yield recording
                recording.finish()
        except recording.av.error.FFmpegError as error:
            raise DlkitError(f"cannot be written as a video ({error.strerror})", path) from error
