"""Streams of lines: encoding, decoding, and input that cannot be read."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlkit.tokenize import load, train
from tests.conftest import run
from tests.tokenize.helpers import (
    LINES,
    error_line,
)


def test_each_line_is_encoded_and_decoded(corpus: Path) -> None:
    lines = run("tokenize", corpus).out.split("\n")
    assert len(lines) == len(LINES) * 5 + 1
    assert lines[0].startswith("The Ġquick")
    ids = run("tokenize", corpus, "--ids").out
    assert run("tokenize", "decode", stdin=ids).out == corpus.read_text(encoding="utf-8")
    tokens = run("tokenize", corpus).out
    assert run("tokenize", "decode", "--tokens", stdin=tokens).out == corpus.read_text("utf-8")
    records = [json.loads(line) for line in run("tokenize", corpus, "-f", "jsonl").out.splitlines()]
    assert [record["text"] for record in records] == LINES * 5
    assert [" ".join(map(str, r["ids"])) for r in records] == ids.split("\n")[:-1]
    assert run("tokenize", stdin="hello\nhello").out == "he ll o\nhe ll o\n"


def test_compressed_files_and_folders(corpus: Path, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    data = corpus.read_bytes()
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt.gz").write_bytes(gzip.compress(data))
    (folder / "b.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(data))
    (folder / "c.txt").write_bytes(data)
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    out = tmp_path / "t.json"
    assert run("tokenize", "train", folder, "--vocab-size", 300, "-o", out).code == 0
    thrice = train([data.decode()[:-1]] * 3, vocab_size=300)
    assert load(out).vocab == thrice.vocab
    assert run("tokenize", folder, "--ids").out == run("tokenize", corpus, "--ids").out * 3
    piped = run("tokenize", "train", "-", "--vocab-size", 300, "-o", tmp_path / "p.json",
                stdin=data.decode() * 3)  # fmt: skip
    assert piped.code == 0
    assert load(tmp_path / "p.json").vocab == thrice.vocab
    scores = json.loads(run("tokenize", "evaluate", folder, "-f", "json").out)
    assert [Path(score["file"]).name for score in scores] == [
        "a.txt.gz",
        "b.txt.zst",
        "c.txt",
        "all",
    ]
    assert all(score["round_trip_errors"] == 0 for score in scores)
    assert scores[3]["tokens"] == 3 * scores[0]["tokens"]


def test_dropout_is_seeded_and_keeps_the_text() -> None:
    command = ["tokenize", "--text", "international relations " * 20, "--ids", "--dropout", 0.5]
    first, again = run(*command, "--seed", 1), run(*command, "--seed", 1)
    assert first.out == again.out != run(*command, "--seed", 2).out
    plain = run("tokenize", "--text", "international relations " * 20, "--ids").out
    assert len(first.out) > len(plain)
    assert run("tokenize", "decode", stdin=first.out).out == "international relations " * 20 + "\n"


@pytest.mark.slow
def test_a_stream_is_answered_line_by_line() -> None:
    """Each line is answered before the next is written, also once compiled code has started."""
    command = [sys.executable, "-m", "dlkit", "tokenize", "--ids"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for text in [b"hello\n", b"x" * 300_000 + b"\n", b"hello\n", b"hello\n"]:
            process.stdin.write(text)
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer.endswith(b"\n")
        assert answer == b" ".join(str(i).encode() for i in load().encode("hello")) + b"\n"
        process.stdin.close()
        assert process.wait() == 0


def test_a_closed_pipe_is_no_error() -> None:
    process = subprocess.run(
        f"yes 'a line' | head -200000 | {sys.executable} -m dlkit tokenize --ids | head -1",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.stdout == " ".join(map(str, load().encode("a line"))) + "\n"
    assert process.stderr == ""


def test_error_of_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlkit.tokenize.infer.MAX_LINE", 10)
    assert "a text of 11 characters" in error_line("-f", "jsonl", stdin="x" * 11 + "\n")
    assert "a text of 11 characters" in error_line("--offsets", stdin="x" * 11 + "\n")
    assert run("tokenize", "-f", "jsonl", stdin="x" * 10 + "\n").code == 0


def test_errors_of_invalid_ids() -> None:
    assert "line 2: id 8192 is not in the vocabulary (0 to 8191)" in error_line(
        "decode", stdin="1\n8192\n"
    )
    assert "'x' is not an id" in error_line("decode", stdin="x\n")
    assert "-1 is not in" in error_line("decode", stdin="-1\n")


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"good line\ncaf\xe9\n")
    before = run("tokenize", path)
    assert (before.code, before.out) == (1, "g ood Ġline\n")
    line, _ = before.err.splitlines()  # and a count
    assert line.startswith(f"dlkit: {path}: byte 13 ")
    assert "byte 13 " in error_line("train", path, "--vocab-size", 300, "-o", tmp_path / "t.json")
    replaced = run("tokenize", path, "--errors", "replace", "-f", "jsonl")
    assert json.loads(replaced.out.splitlines()[1])["text"] == "caf\ufffd"
    good = tmp_path / "good.txt"
    good.write_text("fine\n")
    result = run("tokenize", good, path, tmp_path / "none.txt", good)
    assert result.code == 1
    assert result.out == "f ine\ng ood Ġline\nf ine\n"
    assert len(result.err.splitlines()) == 3  # the two files, and a count


def test_damaged_archives(tmp_path: Path) -> None:
    for suffix, start in {"gz": b"\x1f\x8b", "zst": b"(\xb5/\xfd"}.items():
        path = tmp_path / f"a.txt.{suffix}"
        path.write_bytes(start + b"no archive")
        assert str(path) in error_line(path, code=1)
    path = tmp_path / "cut.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(1000).hex().encode())[:-200])
    assert str(path) in error_line("train", path, "-o", tmp_path / "t.json")


@pytest.mark.slow
def test_nul_bytes_and_a_very_long_line(tmp_path: Path) -> None:
    tokenizer = load()
    for text in ("a\0b\0\0", "x" * 3000):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    path = tmp_path / "long.txt"
    path.write_text("ab " * 200_000)  # compiled from here on
    ids = run("tokenize", path, "--ids").out
    assert ids.count("\n") == 1
    assert run("tokenize", "decode", stdin=ids).out == "ab " * 200_000 + "\n"
