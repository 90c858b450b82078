"""Tokens of files by several models."""

import gzip
import json
from pathlib import Path

import pytest

from dlkit.tokenize import load
from tests.conftest import records, run
from tests.tokenize.helpers import error_line


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A tokenizer of two words and letters."""
    path = tmp_path / "vocab.txt"
    path.write_text("[UNK]\n[CLS]\n[SEP]\nthe\ncat\n##s\né\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return path


def test_files_by_models_and_their_sum(words: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    first.write_text("the cats\n\nthe é", encoding="utf-8")
    second.write_bytes(gzip.compress(b"cat\n"))
    result = run(
        "tokenize", "count", first, second, "-m", words.parent, "-m", "english-8k", "-f", "jsonl"
    )
    assert result.code == 0
    found = records(result)
    own = [record for record in found if record["model"] == str(words.parent)]
    assert [(r["file"], r["texts"], r["characters"], r["bytes"], r["tokens"]) for r in own] == [
        (str(first), 3, 13, 14, 5),
        (str(second), 1, 3, 3, 1),
        ("all", 4, 16, 17, 6),
    ]
    assert [(r["characters_per_token"], r["bytes_per_token"]) for r in own][0] == (2.6, 2.8)
    english = load("english-8k")
    other = [record["tokens"] for record in found if record["model"] == "english-8k"]
    lines = sum(len(english.encode(line)) for line in ("the cats", "", "the é"))
    assert other == [lines, len(english.encode("cat")), lines + len(english.encode("cat"))]
    (whole,) = records(run("tokenize", "count", first, "--whole", "-f", "jsonl"))
    assert whole["tokens"] == len(english.encode("the cats\n\nthe é"))
    assert (whole["texts"], whole["characters"], whole["bytes"]) == (1, 15, 16)
    text = run("tokenize", "count", first).out
    assert text.split("\t")[:2] == [str(first), "english-8k"]


@pytest.mark.parametrize("whole", [(), ("--whole",)])
def test_compiled_code_counts_the_same(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[str, ...]
) -> None:
    models = ("-m", "english-8k", "-m", "english-wordpiece-8k")
    command = ("tokenize", "count", corpus, *models, *whole)
    expected = run(*command)
    monkeypatch.setattr("dlkit.core.io.text.BLOCK", 1000)
    monkeypatch.setattr("dlkit.tokenize.token_counts.COMPILED_SIZE", 0)
    assert run(*command) == expected


def test_bad_files_and_models(words: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("cat\n")
    bad.write_bytes(b"cat\n\xff\n")
    result = run("tokenize", "count", bad, good, "none.txt", "-m", words, "-f", "jsonl")
    assert result.code == 1
    assert [record.get("tokens") for record in records(result)] == [None, 1, None]
    assert "bad.txt: byte 4 is not UTF-8" in result.err
    assert "unknown model" in error_line("count", good, "-m", "none")
    letters = tmp_path / "letters.json"
    corpus = tmp_path / "letters.txt"
    corpus.write_text("abc\n" * 9)
    trained = run(
        "tokenize", "train", corpus, "--algorithm", "byte-bpe", "--vocab-size", 260, "-o", letters
    )
    assert trained.code == 0
    content = json.loads(letters.read_text())
    content["vocab"] = {token: i for token, i in content["vocab"].items() if token != "t"}
    letters.write_text(json.dumps({k: v for k, v in content.items() if k != "sha256"}))
    failed = run("tokenize", "count", good, corpus, "-m", words, "-m", letters, "-f", "jsonl")
    assert failed.code == 1
    assert "good.txt" in failed.err
    assert f"{letters}: the vocabulary has no token for byte" in failed.err
    assert [record["file"] for record in records(failed) if "file" in record] == [str(corpus)] * 2
