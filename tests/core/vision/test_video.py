"""Videos written and read again; what is none; cameras that go on until Ctrl-C."""

import os
import re
import signal
import sys
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from dlkit.core.environment import install_command
from dlkit.core.errors import DlkitError
from dlkit.core.vision import video

av = pytest.importorskip("av")


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A bright stripe that moves to the right on dark gray."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[:, 4 * number : 4 * number + 8] = 220
    return pixels


def record(path: Path, frames: int = 8, **shape: int) -> Path:
    with video.recorder(path, Fraction(10)) as recording:
        for number in range(frames):
            recording.add(picture(number, **shape), number / 10)
    return path


def read(path: Path | str) -> list[video.Frame]:
    with video.opened(str(path)) as clip:
        return list(clip.frames)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = record(tmp_path / "new" / "clip.mp4")
    with video.opened(str(path)) as clip:
        assert (clip.count, clip.rate) == (8, 10)
    frames = read(path)
    assert [frame.number for frame in frames] == [*range(8)]
    assert [frame.time for frame in frames] == pytest.approx([n / 10 for n in range(8)])
    for frame in frames:
        difference = frame.pixels.astype(int) - picture(frame.number)
        assert abs(difference).mean() < 5
    assert [file.name for file in path.parent.iterdir()] == ["clip.mp4"]


def test_times_that_are_not_even_and_odd_sides_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    times = [0.0, 0.1, 0.5, 0.55, 2.0]
    with video.recorder(path, Fraction(10)) as recording:
        for number, time in enumerate(times):
            recording.add(picture(number, 49, 65), time)
    frames = read(path)
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    assert frames[0].pixels.shape == (50, 66, 3)  # the encoder's


def test_a_recording_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        with video.recorder(tmp_path / "a.mp4", Fraction(10)) as recording:
            recording.add(picture(0), 0.0)
            raise RuntimeError("our bug")

    with pytest.raises(RuntimeError, match="our bug"):
        break_off()
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_no_video_holds_are_said(tmp_path: Path) -> None:
    with (
        pytest.raises(DlkitError, match=r"wide\.mp4: cannot be written as a video"),
        video.recorder(tmp_path / "wide.mp4", Fraction(10)) as recording,
    ):
        recording.add(np.zeros((32, 20_000, 3), np.uint8), 0.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("turned", "corner"), [(0, (0, 0)), (90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))]
)
def test_pictures_are_turned_as_the_video_says(
    turned: int, corner: tuple[int, int], tmp_path: Path
) -> None:
    """By `turned` degrees against the clock: where the bright upper left corner is then."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(turned)
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:16, :16] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    (frame,) = read(path)
    assert frame.pixels.shape == ((64, 48, 3) if turned % 180 else (48, 64, 3))
    bright = {at for at in [(0, 0), (0, -1), (-1, 0), (-1, -1)] if frame.pixels[at].min() > 128}
    assert bright == {corner}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.mp4", True),
        ("films/A.MOV", True),
        ("camera:0", True),
        ("https://host/a.webm?token=1", True),
        ("https://host/a.jpg?as=b.mp4", False),
        ("a.gif", False),
        ("mp4", False),
        ("-", False),
    ],
)
def test_what_is_named_as_a_video(source: str, expected: bool) -> None:
    assert video.is_video(source) == expected


def damaged(path: Path, kind: str) -> str:
    """A file of that kind, made of a whole video."""
    content = record(path, 60).read_bytes()
    if kind == "a hole":  # one byte in a hundred of the frames, not of the table at the end
        hole = bytearray(content)
        hole[200 : len(hole) // 2 : 50] = b"\xff" * len(hole[200 : len(hole) // 2 : 50])
        content = bytes(hole)
    if kind == "sound only":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100, layout="mono")
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            sound.rate = 44100
            container.mux(stream.encode(sound))
            container.mux(stream.encode(None))
        return str(path)
    kinds = {"nothing": b"", "text": b"no video\n" * 99, "half": content[: len(content) // 2]}
    path.write_bytes(kinds.get(kind, content))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nothing", "not a video"),
        ("text", "not a video"),
        ("half", "not a video"),
        ("sound only", "without pictures"),
        ("a hole", "damaged video"),
    ],
)
def test_what_is_no_video_is_said(kind: str, said: str, tmp_path: Path) -> None:
    source = damaged(tmp_path / "clip.mp4", kind)
    with pytest.raises(DlkitError, match=said):
        read(source)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.mp4", "no such file"),
        (".", "not a video"),
        ("camera:99", "no such camera|no cameras"),
        ("camera:x", "camera:0"),
        ("http://127.0.0.1:9/a.mp4", "not a video"),
    ],
)
def test_what_is_not_there_is_said(source: str, said: str) -> None:
    with pytest.raises(DlkitError, match=said):
        read(source)


def test_without_pyav_it_is_said_what_to_install() -> None:
    command = re.escape(install_command("video"))
    with mock.patch.dict(sys.modules, av=None), pytest.raises(DlkitError, match=f"run {command}$"):
        read("a.mp4")


def test_a_camera_goes_on_until_ctrl_c() -> None:
    """FFmpeg's test pattern is a camera without end."""
    pattern: tuple[str, str, dict[str, str]] = ("testsrc=size=64x48:rate=10", "lavfi", {})
    before = signal.getsignal(signal.SIGINT)
    with (
        mock.patch.dict(video.CAMERAS, {sys.platform: pattern}),
        video.opened("camera:0") as clip,
    ):
        numbers = []
        for frame in clip.frames:
            numbers.append(frame.number)
            if frame.number == 20:
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == before  # a second one ends the command
    assert numbers == [*range(21)]
    assert clip.count == 0
