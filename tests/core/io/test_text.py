"""Reading text: lines as soon as they are there."""

import bz2
import gzip
import io
import itertools
import lzma
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import text
from dlkit.core.io.text import blocks, line_batches, lines, lines_or_stdin
from dlkit.core.parallel.sharding import Shard, map_shard


def test_lines_of_a_silent_pipe_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    end, start = os.pipe()
    with os.fdopen(end) as stdin, os.fdopen(start, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", stdin)
        batches = line_batches("-", 10)
        writer.write(b"one\ntwo\nth")
        assert next(batches) == ["one", "two"]
        writer.write(b"ree\n")
        assert next(batches) == ["three"]
        writer.write("vier\r\n\nfünf".encode())
        writer.close()
        assert [line for batch in batches for line in batch] == ["vier", "", "fünf"]


def test_several_processes_see_the_same_blocks_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """srun copies its stdin to each of them, to one in larger pieces than to another."""

    class Pieces(io.RawIOBase):
        def __init__(self, size: int) -> None:
            self.source, self.size = io.BytesIO(b"one\ntwo\nthree\nfour\nfive"), size

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self.source.readinto(memoryview(buffer)[: self.size])

    def found(size: int) -> list[bytes]:
        stdin = io.TextIOWrapper(io.BufferedReader(Pieces(size)))
        monkeypatch.setattr("sys.stdin", stdin)
        return list(blocks("-"))

    monkeypatch.setattr("dlkit.core.io.text.BLOCK", 10)
    assert found(4) != found(7)  # one process takes what is there
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert found(4) == found(7) == [b"one\ntwo\n", b"three\nfour\n", b"five"]


def test_batches_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"a\n\nb\xff\nc")
    batches = list(line_batches(str(path), 2, "replace"))
    assert max(map(len, batches)) == 2
    assert sum(batches, []) == ["a", "", "b\N{REPLACEMENT CHARACTER}", "c"]
    path.write_bytes(b"")
    assert list(line_batches(str(path), 2)) == []


def test_lines_have_no_ends(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"a b\r\n\nc")
    assert list(lines(str(path))) == ["a b", "", "c"]


# ---- Ends of lines, marks, compression, damage ---------------------------------------------------

TEXT = "eins\nzwei\r\ndrei\rvier\u2028fünf\x0c\x85sechs\n\nEnde"
LINES = ["eins", "zwei", "drei\rvier\u2028fünf\x0c\x85sechs", "", "Ende"]
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}


@pytest.mark.parametrize("place", ["file", "stdin", "pipe"])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_only_a_line_feed_ends_a_line_wherever_the_text_is(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compression is found by content, the mark at the beginning is removed."""
    path = tmp_path / "no-suffix"
    path.write_bytes(COMPRESSORS[name](b"\xef\xbb\xbf" + TEXT.encode()))
    if place == "file":
        assert list(lines(str(path))) == LINES
        assert b"".join(blocks(str(path))) == TEXT.encode()
        assert b"".join(blocks(str(path), keep_mark=True)) == b"\xef\xbb\xbf" + TEXT.encode()
    elif place == "stdin":
        with path.open(encoding="latin-1") as stdin:  # the locale does not matter
            monkeypatch.setattr("sys.stdin", stdin)
            assert list(lines("-")) == LINES
    else:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
        writer.start()
        read: list[int] = []
        assert b"".join(blocks(str(pipe), on_read=read.append)).decode().split("\n")[-1] == "Ende"
        assert sum(read) > 0
        writer.join()


@pytest.mark.parametrize("name", ["gz", "bz2", "zst", "xz"])
def test_several_members_are_one_text(name: str, tmp_path: Path) -> None:
    """As of `cat a.gz b.gz`."""
    path = tmp_path / "two"
    path.write_bytes(COMPRESSORS[name](b"one\ntwo\n") + COMPRESSORS[name](b"three\n"))
    assert list(lines(str(path))) == ["one", "two", "three"]


@pytest.mark.parametrize("name", ["gz", "bz2", "zst", "xz"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_archive_is_a_failure_of_that_file(
    name: str, damage: str, tmp_path: Path
) -> None:
    whole = COMPRESSORS[name](np.random.default_rng(0).bytes(30_000).hex().encode() + b"\n")
    middle = len(whole) // 2
    bad = whole[:middle] if damage == "cut" else whole[:middle] + b"\0" * 9 + whole[middle + 9 :]
    (tmp_path / "bad").write_bytes(bad)
    (tmp_path / "good").write_bytes(b"a\nb\n")
    good, broken = str(tmp_path / "good"), str(tmp_path / "bad")
    found = list(lines_or_stdin([good, broken, good, "missing"], "texts"))
    failures = [item for item in found if isinstance(item, Failure)]
    assert [item for item in found if item in ("a", "b")] == ["a", "b", "a", "b"]
    assert [failure.path for failure in failures] == [broken, "missing"]
    assert failures[0].error.startswith("a damaged file (")
    assert failures[1].error == "no such file"


def test_a_zstd_window_of_2_gib_is_read(tmp_path: Path) -> None:
    """As of `zstd --long=31`."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31)
    path = tmp_path / "long.zst"
    with path.open("wb") as file:
        writer = zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file)
        writer.write(b"one\ntwo\n")
        writer.close()
    assert list(lines(str(path))) == ["one", "two"]


def test_lines_before_a_bad_byte_are_read_and_the_next_file_too(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"one\ntw\xffo\nthree\n")
    (tmp_path / "good").write_bytes(b"vier\n")
    files = [str(tmp_path / "bad"), str(tmp_path / "good")]
    one, failure, four = lines_or_stdin(files, "texts")
    assert (one, four) == ("one", "vier")
    assert isinstance(failure, Failure)
    assert failure.error == ("byte 6 is not UTF-8 (invalid start byte); --errors replace continues")
    replaced = list(lines_or_stdin(files, "texts", errors="replace"))
    assert replaced == ["one", "tw\N{REPLACEMENT CHARACTER}o", "three", "vier"]


def test_a_line_that_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LONGEST_LINE", 1 << 20)
    monkeypatch.setattr(text, "BLOCK", 1 << 16)
    path = tmp_path / "long"
    path.write_bytes(b"a\nb\n" + b"x" * ((1 << 20) + 1) + b"\nc\n")
    with pytest.raises(DlkitError, match=r"line 3 has more than 1 MiB; cut it into lines"):
        list(lines(str(path)))
    path.write_bytes(b"a\nb\n" + b"x" * (1 << 20) + b"\nc\n")
    assert [len(line) for line in lines(str(path))] == [1, 1, 1 << 20, 1]


def test_text_of_the_command_line_is_one_text() -> None:
    assert list(lines_or_stdin(None, "texts", TEXT)) == [TEXT]


def test_failures_keep_their_place_among_the_results() -> None:
    """Also where the work reads ahead, for each shard, and with several processes' gather."""
    bad = Failure("x", "bad")
    inputs = ["a", bad, "b", "c", bad, bad, "d", bad]

    def work(items: Iterator[str]) -> Iterator[str]:
        while window := list(itertools.islice(items, 3)):
            yield from map(str.upper, window)

    assert list(map_shard(work, inputs)) == ["A", bad, "B", "C", bad, bad, "D", bad]
    for step in (2, 3):
        for index in range(step):
            own = list(map_shard(work, inputs, shard=Shard(index, step)))
            assert own == [
                item.upper() if isinstance(item, str) else item for item in inputs[index::step]
            ]
    assert list(map_shard(work, [bad])) == [bad]
