"""Reading text: lines as soon as they are there."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.io.text import blocks, line_batches, lines


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
    batches = list(line_batches(str(path), 2))
    assert max(map(len, batches)) == 2
    assert sum(batches, []) == ["a", "", "b\N{REPLACEMENT CHARACTER}", "c"]
    path.write_bytes(b"")
    assert list(line_batches(str(path), 2)) == []


def test_lines_have_no_ends(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"a b\r\n\nc")
    assert list(lines(str(path))) == ["a b", "", "c"]
