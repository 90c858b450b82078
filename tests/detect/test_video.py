"""Videos, tracks, counts and crops, as `dlkit detect` is typed."""

import csv
import io
import json
import os
import signal
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dlkit.core.environment import install_command
from dlkit.core.vision import images, video
from dlkit.detect.predictor import Predictor
from tests.conftest import SIDE, Result, run, scene

pytest.importorskip("av")


FRAMES = 12


def moment(number: int) -> Image.Image:
    """A square that goes down and a disc that goes up, on dark noise."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8))
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((6, 8 + 3 * number, 37, 39 + 3 * number), fill=(255, 60, 40))
    canvas.ellipse((55, 50 - 3 * number, 86, 81 - 3 * number), fill=(60, 120, 255))
    return image


@pytest.fixture
def detect(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`dlkit detect ARGS` with the tiny model, beside clip.mp4 and its frames in `frames/`."""
    monkeypatch.chdir(tmp_path)
    with video.recorder(Path("clip.mp4"), Fraction(10)) as recording:
        for number in range(FRAMES):
            recording.add(np.asarray(moment(number)), number / 10)
    with video.opened("clip.mp4") as clip:
        for frame in clip.frames:
            images.save(Image.fromarray(frame.pixels), Path(f"frames/{frame.number:03}.png"))

    def call(*args: object) -> Result:
        return run("detect", "-m", model, "--device", "cpu", "--precision", "fp32", *args)

    return call


def records(result: Result) -> list[dict[str, Any]]:
    assert result.code in {0, 1}, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def without_numbers(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the labels of its objects only."""
    return {**record, "objects": [found["label"] for found in record["objects"]]}


def numbers(frames: list[dict[str, Any]], *names: str) -> list[float]:
    """The numbers of all objects, by default their corners."""
    keys = names or ("x1", "y1", "x2", "y2")
    return [found[key] for record in frames for found in record["objects"] for key in keys]


def test_a_video_is_its_frames(detect: Any) -> None:
    expected = records(detect("frames", "-f", "jsonl"))
    done = detect("clip.mp4", "-f", "jsonl")
    found = records(done)
    assert [record["objects"] for record in found] == [record["objects"] for record in expected]
    assert [record["frame"] for record in found] == [*range(FRAMES)]
    assert [record["time"] for record in found] == [n / 10 for n in range(FRAMES)]
    assert {record["path"] for record in found} == {"clip.mp4"}
    assert "12 frames" in done.err
    assert "frames per second" in done.err
    for options in ("--batch-size 5 --workers 0", "--batch-size 1"):
        again = records(detect("clip.mp4", "-f", "jsonl", *options.split()))
        assert [without_numbers(record) for record in again] == [
            without_numbers(record) for record in found
        ]
        # A batch of another size may round the last printed digit differently.
        assert numbers(again) == pytest.approx(numbers(found), abs=0.11)
        assert numbers(again, "score") == pytest.approx(numbers(found, "score"), abs=1.1e-4)
    rows = [line.split("\t") for line in detect("clip.mp4").out.splitlines()]
    objects = [(r["frame"], o["label"], o["x1"]) for r in found for o in r["objects"]]
    assert [(int(r[1]), r[3], float(r[5])) for r in rows] == objects


def test_tracks_are_the_same_in_all_frames(detect: Any) -> None:
    found = records(detect("clip.mp4", "--track", "--threshold", 0.3, "-f", "jsonl"))
    tracks = Counter((o["label"], o["track"]) for record in found for o in record["objects"])
    assert {label for label, _ in tracks} == {"square", "disc"}
    (_, of_disc), (_, of_square) = sorted(pair for pair, _ in tracks.most_common(2))
    assert {of_disc, of_square} == {1, 2}
    assert sum(count for _, count in tracks.most_common(2)) >= 2 * FRAMES - 2
    # The frames as images, in their order, are followed as well.
    as_images = records(detect("frames", "--track", "--threshold", 0.3, "-f", "jsonl"))
    assert [record["objects"] for record in as_images] == [record["objects"] for record in found]
    rows = list(
        csv.DictReader(
            io.StringIO(detect("frames", "--track", "--threshold", 0.3, "-f", "csv").out)
        )
    )
    assert [int(row["track"]) for row in rows] == [o["track"] for r in found for o in r["objects"]]


def test_a_table_has_its_columns_though_the_first_frame_is_empty(detect: Any) -> None:
    with video.recorder(Path("late.mp4"), Fraction(10)) as recording:
        for number in range(4):
            recording.add(np.asarray(moment(0)) * (number > 0), number / 10)
    for options in ([], ["--track"], ["--count"]):
        done = detect("late.mp4", "-f", "csv", *options)
        assert done.code == 0, done.err
        rows = list(csv.DictReader(io.StringIO(done.out)))
        assert all(None not in row and None not in row.values() for row in rows)
        assert {row["frame"] for row in rows} <= {"1", "2", "3"}
    assert ("track" in done.out) is False


def test_the_annotated_video(detect: Any) -> None:
    done = detect("clip.mp4", "--save", "out", "--track", "-f", "jsonl")
    assert [file.name for file in Path("out").iterdir()] == ["clip.mp4"]
    with video.opened("clip.mp4") as clip, video.opened("out/clip.mp4") as drawn:
        pairs = list(zip(clip.frames, drawn.frames, strict=True))
    assert len(pairs) == FRAMES
    for (before, after), record in zip(pairs, records(done), strict=True):
        assert after.time == pytest.approx(before.time)
        changed = abs(after.pixels.astype(int) - before.pixels).max(axis=2) > 80
        for found in record["objects"]:
            y, x = round(found["y2"]) - 1, round((found["x1"] + found["x2"]) / 2)
            assert changed[max(y - 3, 0) : y + 4, x].any()
        assert changed.mean() < 0.5
    assert detect("clip.mp4", "--save", ".").code == 2  # never over the input
    assert len(list(Path().glob("*.mp4*"))) == 1


def test_counts(detect: Any) -> None:
    scene(20)[0].save("both.png")
    Image.new("RGB", (64, 64)).save("none.png")
    sources = ("both.png", "none.png", "missing.png")
    expected = [
        {"path": "both.png", "counts": {"disc": 1, "square": 1}},
        {"path": "none.png", "counts": {}},
        {"path": "missing.png", "error": "no such file"},
    ]
    assert records(detect(*sources, "--count", "-f", "jsonl")) == expected
    assert json.loads(detect(*sources, "--count", "-f", "json").out) == expected
    assert detect(*sources, "--count").out == "both.png\tdisc\t1\nboth.png\tsquare\t1\n"
    table = detect(*sources, "--count", "-f", "csv").out
    assert table == "path,label,count\nboth.png,disc,1\nboth.png,square,1\n"
    frames = records(detect("clip.mp4", "--count", "-f", "jsonl"))
    objects = records(detect("clip.mp4", "-f", "jsonl"))
    assert [frame["counts"] for frame in frames] == [
        dict(Counter(sorted(o["label"] for o in record["objects"]))) for record in objects
    ]
    assert [frame["frame"] for frame in frames] == [*range(FRAMES)]


def test_crops(detect: Any) -> None:
    image, _ = scene(20)
    image.save("a.png")
    (Path("b")).mkdir()
    image.save("b/a.png")
    (record, _) = records(detect("a.png", "b/a.png", "--crops", "out", "-f", "jsonl"))
    assert sorted(str(path) for path in Path("out").rglob("*.png")) == [
        "out/disc/a-2.png", "out/disc/a.png", "out/square/a-2.png", "out/square/a.png",
    ]  # fmt: skip
    for found in record["objects"]:
        with Image.open(f"out/{found['label']}/a.png") as crop:
            left, top = int(found["x1"]), int(found["y1"])
            box = (left, top, left + crop.width, top + crop.height)
            assert np.array_equal(np.asarray(crop), np.asarray(image.crop(box)))
            assert 0 <= crop.width - (found["x2"] - found["x1"]) < 2
    done = records(detect("clip.mp4", "--crops", "of-video", "-f", "jsonl"))
    count = sum(len(record["objects"]) for record in done)
    assert len(list(Path("of-video").rglob("clip-0000??*.jpg"))) == count > 0


def test_crops_of_a_run_that_is_resumed_and_of_shards(detect: Any) -> None:
    """They are those of a run left alone, though the images have one name."""
    for seed in (20, 21, 22):
        images.save(scene(seed)[0], Path(f"{seed}/a.png"))
    inputs = ["20/a.png", "21/a.png", "22/a.png", "-o", "out.jsonl"]
    for options in ([], ["--count"]):
        assert detect(*inputs, "--crops", "whole", "--force", *options).code == 0
        lines = Path("out.jsonl").read_text().splitlines(keepends=True)
        Path("out.jsonl").unlink()
        Path("out.jsonl.partial").write_text(lines[0])
        # The first image's crops are there; were they not, they would be missing.
        for path in list(Path("whole").rglob("a.png")):
            images.save(Image.open(path), Path("resumed", *path.parts[1:]))
        assert detect(*inputs, "--crops", "resumed", "--resume", *options).code == 0
        assert Path("out.jsonl").read_text() == "".join(lines)
        whole, resumed = (
            {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*.png")}
            for folder in ("whole", "resumed")
        )
        assert len(whole) >= 6
        assert resumed == whole
    assert detect(*inputs, "--crops", "shards", "--shard", "1/2").code == 0
    shard = sorted(Path("shards/00001-of-00002").rglob("*.png"))
    assert [path.name for path in shard] == ["a.png", "a.png"]


def test_a_video_that_fails_stops_no_other(detect: Any) -> None:
    whole = Path("clip.mp4").read_bytes()
    Path("half.mp4").write_bytes(whole[: len(whole) // 2])
    found = records(detect("half.mp4", "missing.mp4", "clip.mp4", "-f", "jsonl", "--save", "out"))
    assert [record["path"] for record in found[:2]] == ["half.mp4", "missing.mp4"]
    assert "not a video" in found[0]["error"]
    assert found[1]["error"] == "no such file"
    assert len(found) == 2 + FRAMES
    assert [file.name for file in Path("out").iterdir()] == ["clip.mp4"]


def test_what_could_be_read_of_a_damaged_video_is_kept(detect: Any) -> None:
    whole = bytearray(Path("clip.mp4").read_bytes())
    start = whole.index(b"mdat") + 4
    # The picture data of the second half; the table of its parts stands behind it.
    end = whole.index(b"moov")
    whole[(start + end) // 2 : end - 8] = b"\xff" * (end - 8 - (start + end) // 2)
    Path("hole.mp4").write_bytes(whole)
    done = detect("hole.mp4", "-f", "jsonl", "--save", "out")
    found = records(done)
    assert done.code == 1
    assert "damaged" in found[-1]["error"]
    assert 0 < len(found) - 1 <= FRAMES
    with video.opened("out/hole.mp4") as clip:
        assert len(list(clip.frames)) == len(found) - 1


def test_before_a_camera_until_ctrl_c(detect: Any, model: Path) -> None:
    """FFmpeg's test pattern is a camera without end; each frame is said at once."""
    pattern: tuple[str, str, dict[str, str]] = ("testsrc=size=96x96:rate=10", "lavfi", {})
    detector = Predictor.predict_pictures
    seen: list[int] = []

    def predict_pictures(self: Predictor, pictures: Any) -> Any:
        seen.append(len(pictures))
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return detector(self, pictures)

    with (
        mock.patch.dict(video.CAMERAS, {sys.platform: pattern}),
        mock.patch.object(Predictor, "predict_pictures", predict_pictures),
    ):
        done = detect("camera:0", "-f", "jsonl", "--save", "out")
    assert done.code == 0
    assert len(records(done)) == 5
    assert seen == [1] * 5
    with video.opened("out/camera-0.mp4") as clip:
        assert len(list(clip.frames)) == 5


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("clip.mp4 frames", "mixed"),
        ("clip.mp4 -f coco", "cannot hold a video"),
        ("clip.mp4 -f yolo -o out", "cannot hold a video"),
        ("frames -f voc -o out --track", "cannot hold --track"),
        ("frames -f coco --count", "cannot hold --count"),
        ("clip.mp4 -o out.mp4", "results are text"),
        ("frames --crops frames", "holds inputs"),
        ("frames --track -o out.jsonl --resume", "--resume"),
        ("clip.mp4 -o out.jsonl --shard 0/2", "--shard"),
    ],
)
def test_what_cannot_be_done_is_one_line(args: str, said: str, detect: Any) -> None:
    before = sorted(Path().rglob("*"))
    done = detect(*args.split())
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert said in line
    assert sorted(Path().rglob("*")) == before


def test_several_processes_do_not_share_a_video(detect: Any) -> None:
    # One of several processes ends without the interpreter's end, and pytest with it.
    one_of_two = mock.patch.dict(os.environ, WORLD_SIZE="2")
    with one_of_two, mock.patch.object(os, "_exit", side_effect=sys.exit):
        for args in (["clip.mp4"], ["frames", "--track"]):
            done = detect(*args)
            assert done.code == 2
            assert "torchrun" in done.err


def test_without_pyav_it_is_said_what_to_install(detect: Any) -> None:
    with mock.patch.dict(sys.modules, av=None):
        done = detect("clip.mp4")
    assert done.code == 1
    assert done.err.splitlines() == [
        f"dlkit: clip.mp4: videos need PyAV; run {install_command('video')}"
    ]
