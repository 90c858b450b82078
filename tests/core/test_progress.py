"""The spinner, bars with totals and rates, and lines above them."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from dlkit.core import progress
from dlkit.core.io import image_files
from dlkit.core.io.text import lines_or_stdin
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import Bar, Inputs, duration, log, rate, spinning, status, track
from tests.conftest import on_terminal, run, run_on_terminal


def test_the_spinner_comes_after_a_moment_and_leaves_nothing() -> None:
    with on_terminal() as screen:
        with spinning("loading a"):
            status("loading b")
            time.sleep(progress.SPINNER_DELAY + 0.3)
            log("a line")
            time.sleep(0.3)
        log("the end")
    assert "loading b" in screen.sent
    assert "loading a" not in screen.sent
    assert screen.lines == ["a line", "the end"]
    assert screen.sent.rindex("loading b") < screen.sent.index("a line")


def test_a_quick_command_has_no_spinner() -> None:
    with on_terminal() as screen, spinning("loading a"):
        time.sleep(progress.SPINNER_DELAY / 4)
    assert screen.sent == ""


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_no_spinner_and_no_bar_where_lines_cannot_be_redrawn_or_on_other_ranks(
    environment: dict[str, Any],
) -> None:
    with on_terminal(**environment) as screen, spinning("loading a"):
        time.sleep(progress.SPINNER_DELAY + 0.2)
        assert list(track(range(5), "counting")) == list(range(5))
    assert screen.sent == ""


def test_a_bar_shows_count_total_rate_and_time_left_and_leaves_nothing() -> None:
    with on_terminal(columns=100) as screen:
        for number in track(Inputs(iter(range(8)), lambda: 40), "drawing"):
            time.sleep(0.1)
            if number == 4:
                log("a line above the bar")
    last = screen.sent
    assert "drawing" in last
    assert "/40" in last
    assert "/s" in last
    assert "0:00:0" in last or "00:0" in last
    assert screen.lines == ["a line above the bar"]


def test_the_total_is_counted_beside_the_work() -> None:
    """A count that takes long does not delay the first item."""

    def slow() -> int:
        time.sleep(0.4)
        return 7

    with on_terminal(columns=100) as screen:
        began = time.monotonic()
        for number in track(Inputs(iter(range(3)), slow), "drawing"):
            if number == 0:
                assert time.monotonic() - began < 0.4
            time.sleep(0.3)
    assert "/7" in screen.sent


def test_totals_of_folders_lists_and_shards(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.txt", "sub/d.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folder = str(tmp_path)
    assert image_files.files([folder, "other.jpg"]).count() == 4
    assert image_files.files(["-"]).count() is None
    kept = image_files.files(image_files.keep_apart([tmp_path / "out"], [folder]))
    assert kept.count() == 3
    assert len(list(kept)) == 3
    for total in (0, 1, 7, 12):
        for index in range(3):
            shard = Shard(index, 3)
            assert shard.count(total) == len(list(shard.select(range(total))))
    (inputs,) = map_shard(lambda own: iter([own]), image_files.files([folder]), shard=Shard(1, 2))
    assert inputs.count() == 1


def test_lines_of_files_are_counted(tmp_path: Path) -> None:
    for name, content in {"a": "1\n2\n", "b": "3\n4", "c": ""}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "d.gz").write_bytes(gzip.compress(b"x"))
    files = [str(tmp_path / name) for name in "abc"]
    found = lines_or_stdin(files, "texts")
    assert found.count() == len(list(found)) == 4
    assert lines_or_stdin([*files, str(tmp_path / "d.gz")], "texts").count() is None
    assert lines_or_stdin([*files, "missing"], "texts").count() is None
    assert lines_or_stdin(None, "texts", "a\nb").count() == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.8412, "0.84 s"), (9.04, "9 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("speed", "text"), [(1234.5, "1234/s"), (12.34, "12.3/s"), (0.25, "4.0 s each"), (0, "")]
)
def test_rates(speed: float, text: str) -> None:
    assert rate(speed) == text


def test_results_are_printed_above_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and a bar on one terminal do not mix."""
    monkeypatch.chdir(tmp_path)
    with on_terminal(columns=60) as screen:
        bar = Bar("working", 10)
        for number in range(4):
            bar.advance()
            log(f"line {number}")
            time.sleep(0.06)
        bar.close()
    assert screen.lines == [f"line {number}" for number in range(4)]


def test_json_on_a_terminal_is_json() -> None:
    done = run_on_terminal("models", "detect", "-f", "jsonl", columns=4000)
    piped = run("models", "detect", "-f", "jsonl")
    assert [json.loads(line) for line in done.lines] == [
        json.loads(line) for line in piped.out.splitlines()
    ]
