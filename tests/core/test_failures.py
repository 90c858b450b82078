"""Results ahead of their use: order, memory, and inputs that have not arrived."""

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from dlkit.cli import main
from dlkit.core import failures
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.io import image_files


class Block:
    """A result of so many bytes."""

    def __init__(self, number: int, nbytes: int) -> None:
        self.number, self.nbytes = number, nbytes


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_with_failures_in_their_places(workers: int) -> None:
    def work(path: str) -> int:
        time.sleep(0.001 * (7 - int(path) % 7))
        if path == "5":
            raise DlkitError("odd")
        return int(path)

    found = list(each(work, map(str, range(60)), workers))
    assert found == [Failure("5", "odd") if n == 5 else n for n in range(60)]


@pytest.mark.parametrize("size", [10, 100, 5000])
def test_what_waits_is_bounded_by_bytes(size: int) -> None:
    made, most, used = 0, 0, 0
    lock = threading.Lock()

    def work(path: str) -> Block:
        nonlocal made, most
        with lock:
            made += 1
            most = max(most, made - used)
        return Block(int(path), size)

    with mock.patch.object(failures, "AHEAD_BYTES", 1000):
        results = each(work, map(str, range(200)), 2)
        for number, result in enumerate(results):
            assert isinstance(result, Block)
            assert result.number == number
            time.sleep(0.001)
            used += 1
    # One more for each thread, and the one that is being used.
    assert most <= min(32, 1000 // size) + 4


def test_threads_end_with_an_iterator_that_is_dropped() -> None:
    with mock.patch.object(failures, "AHEAD_BYTES", 1):
        before = threading.active_count()
        results = each(lambda path: Block(0, 100), map(str, range(100)), 2)
        next(results)
        del results
        assert threading.active_count() == before


def test_a_window_is_bounded_by_bytes() -> None:
    entries = iter([("a", Block(n, 60_000_000)) for n in range(9)])
    assert [len(next_window(entries, 100)) for _ in range(4)] == [4, 4, 1, 0]


@contextmanager
def pipe_as_stdin() -> Iterator[int]:
    """The end of a pipe to write to, whose other end is stdin."""
    read, write = os.pipe()
    with os.fdopen(read) as stdin, mock.patch("sys.stdin", stdin):
        yield write


def test_results_do_not_wait_for_an_input_that_has_not_arrived() -> None:
    with pipe_as_stdin() as write:
        os.write(write, b"a\nb\n\nc\n\n")
        results = each(str.upper, image_files.files(["-"]), 2)
        assert next_window(results, 100) == ["A", "B", "C"]
        os.write(write, b"d\n" * 50)
        assert next_window(results, 20) == ["D"] * 20
        assert next_window(results, 100) == ["D"] * 30
        os.write(write, b"e")
        os.close(write)
        assert next_window(results, 100) == ["E"]
        assert next_window(results, 100) == []


def test_a_command_answers_when_the_source_pauses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    output = tmp_path / "out.jsonl"
    answered = 0

    def feed(write: int) -> None:
        nonlocal answered
        os.write(write, f"{tmp_path / 'a.png'}\n".encode() * 100)
        partial, end = tmp_path / "out.jsonl.partial", time.monotonic() + 60
        while answered < 100 and time.monotonic() < end:
            time.sleep(0.05)
            answered = partial.read_bytes().count(b"\n") if partial.exists() else 0
        os.close(write)

    with pipe_as_stdin() as write:
        feeder = threading.Thread(target=feed, args=(write,))
        feeder.start()
        with contextlib.redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as stop:
            main(["classify", "-", "-o", str(output)])
        feeder.join()
    assert stop.value.code == 0
    assert answered == 100
