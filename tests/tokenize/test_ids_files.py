"""Files of ids for training: the same ids as printed, read by NumPy, and decoded again."""

import json
from pathlib import Path

import numpy as np
import pytest

from dlkit.tokenize import load
from tests.conftest import run
from tests.tokenize.helpers import LINES, error_line


def printed_ids(*arguments: object) -> list[list[int]]:
    """The ids that `--ids` prints, line by line."""
    lines = run("tokenize", *arguments, "--ids").out.split("\n")[:-1]
    return [[int(word) for word in line.split()] for line in lines]


def read(path: Path) -> np.ndarray:
    dtype = json.loads(path.with_name(f"{path.name}.json").read_text())["dtype"]
    return np.load(path, mmap_mode="r") if path.suffix == ".npy" else np.fromfile(path, dtype)


@pytest.mark.parametrize("suffix", ["bin", "npy"])
@pytest.mark.parametrize("compiled", [False, True])
def test_numpy_reads_the_ids_that_are_printed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, compiled: bool
) -> None:
    monkeypatch.setattr("dlkit.tokenize.infer.COMPILED_SIZE", 0 if compiled else 1 << 30)
    monkeypatch.setattr("dlkit.core.io.text.BLOCK", 1000)
    expected = printed_ids(corpus)
    out = tmp_path / f"ids.{suffix}"
    plain = run("tokenize", corpus, "-o", out)
    assert plain.code == 0
    assert plain.out == ""
    assert "nothing between them; --end-token" in plain.err
    found = read(out)
    assert found.dtype == np.uint16
    assert found.tolist() == [i for ids in expected for i in ids]
    ended = run("tokenize", corpus, "-o", out, "--end-token", "<eos>", "--force")
    assert f"of {len(expected)} texts, each followed by <eos> (2)" in ended.err
    assert read(out).tolist() == [i for ids in expected for i in [*ids, 2]]
    layout = json.loads((tmp_path / f"ids.{suffix}.json").read_text())
    assert (layout["ids"], layout["texts"], layout["end"]) == (len(read(out)), len(LINES) * 5, 2)
    assert run("tokenize", "decode", out).out == corpus.read_text(encoding="utf-8")


def test_whole_files_are_one_text_each(corpus: Path, tmp_path: Path) -> None:
    text = corpus.read_text(encoding="utf-8")
    expected = [*load("english-8k").encode(text), 2] * 2
    assert (
        run(
            "tokenize", corpus, corpus, "--whole", "-o", tmp_path / "w.npy", "--end-token", "<eos>"
        ).code
        == 0
    )
    assert read(tmp_path / "w.npy").tolist() == expected
    assert run("tokenize", "decode", tmp_path / "w.npy").out == f"{text}\n" * 2
    (record,) = json.loads(run("tokenize", corpus, "--whole", "-f", "json").out)
    assert record["text"] == text
    assert (
        run("tokenize", "--text", "a\nb\n", "--ids", "--whole").out
        == run("tokenize", "--text", "a\nb\n", "--ids").out
    )


def test_a_large_vocabulary_needs_four_bytes(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(70_000)]
    (tmp_path / "vocab.txt").write_text("\n".join(["[UNK]", *words]))
    (tmp_path / "text.txt").write_text("w1 w65535 w69999\n")
    out = tmp_path / "ids.bin"
    assert run("tokenize", tmp_path / "text.txt", "-m", tmp_path / "vocab.txt", "-o", out).code == 0
    assert np.fromfile(out, np.uint32).tolist() == [2, 65536, 70000]


def test_a_bad_file_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    good, bad, out = tmp_path / "good.txt", tmp_path / "bad.txt", tmp_path / "ids.npy"
    good.write_text("hello\n")
    bad.write_bytes(b"\xff\n")
    result = run("tokenize", bad, good, "-o", out)
    assert result.code == 1
    assert "bad.txt: byte 0 is not UTF-8" in result.err
    assert read(out).tolist() == load("english-8k").encode("hello")


def test_what_does_not_fit_is_refused(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "ids.bin"
    assert "--end-token" in error_line(corpus, "--end-token", "<eos>")
    assert "special tokens: <pad>, <bos>" in error_line(corpus, "-o", out, "--end-token", "<x>")
    assert "remove --format" in error_line(corpus, "-o", out, "-f", "jsonl")
    assert "remove --offsets" in error_line(corpus, "-o", out, "--offsets")
    assert "-o FILE.jsonl" in error_line(corpus, "-o", out, "--resume")
    assert not out.exists()
    assert run("tokenize", corpus, "-o", out).code == 0
    assert "--force" in error_line(corpus, "-o", out)
    decode = ("decode", out)
    assert "-m english-8k" in error_line(*decode, "-m", "english-wordpiece-8k", code=1)
    with out.open("ab") as file:
        file.write(b"\1\0")
    assert "ids.bin.json is of" in error_line(*decode, code=1)
    (tmp_path / "ids.bin.json").write_text("{}")
    assert "damaged" in error_line(*decode, code=1)
    (tmp_path / "ids.bin.json").unlink()
    assert "no ids.bin.json" in error_line(*decode, code=1)
    np.save(tmp_path / "other.npy", np.array([54, 5694, 3946], np.int64))
    assert run("tokenize", "decode", tmp_path / "other.npy").out == "Two dog\n"
    np.save(tmp_path / "other.npy", np.zeros((2, 2)))
    assert "(2, 2) of float64" in error_line("decode", tmp_path / "other.npy", code=1)
