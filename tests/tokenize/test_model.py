"""Tokenizers: round trips, files, offsets, bytes, and nothing heavy for a small text."""

import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlkit.tokenize import load, show, train
from dlkit.tokenize.infer import format_token
from tests.conftest import run
from tests.tokenize.helpers import LINES, error_line

ALL = [
    ("byte-bpe", {}),
    ("byte-bpe", {"split": "gpt4"}),
    ("byte-bpe", {"split": r"\S+|\s+"}),
    ("bpe", {}),
    ("bpe", {"mark": "word-start"}),
    ("bpe", {"mark": "none", "split": "gpt2"}),
    ("wordpiece", {}),
    ("wordpiece", {"normalize": "lower,strip-accents"}),
    ("char", {}),
    ("byte", {}),
    ("whitespace", {}),
    ("words", {}),
    ("unigram", {"vocab_size": 80}),
    ("sentencepiece-bpe", {"vocab_size": 100}),
]


@pytest.mark.parametrize(("algorithm", "settings"), ALL)
def test_every_algorithm_round_trips_through_its_file(
    algorithm: str, settings: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    special = ["<pad>", "<unk>"]
    tokenizer = train(
        LINES * 5, algorithm=algorithm, special=special, **{"vocab_size": 400} | settings
    )
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json())
    assert tokenizer.special == {"<pad>": 0, "<unk>": 1}
    assert not set(tokenizer.vocab) & set(tokenizer.special)
    ids = [tokenizer.encode(line) for line in LINES]
    for other in (load(path), pickle.loads(pickle.dumps(tokenizer))):
        assert [other.encode(line) for line in LINES] == ids
        assert other.vocab == tokenizer.vocab
        assert other.algorithm == algorithm
    assert tokenizer.encode_batch(LINES) == ids
    keeps_everything = algorithm in {"byte-bpe", "byte", "char"} or settings.get("split") == "gpt2"
    for line, encoded in zip(LINES, ids, strict=True):
        decoded = tokenizer.decode(encoded)
        if keeps_everything:
            assert decoded == line
        elif algorithm in {"bpe", "whitespace"}:
            assert decoded.split() == line.split()
        spans = tokenizer.encode_spans(line)
        assert [i for i, _ in spans] == encoded
        assert all(0 <= a <= b <= len(line) for _, (a, b) in spans)
    # By default sentencepiece prints its log on stderr.
    assert "trainer_interface" not in capfd.readouterr().err


def test_any_bytes_round_trip() -> None:
    rng = random.Random(0)
    variants: list[dict[str, Any]] = [{}, {"split": "gpt4"}, {"algorithm": "byte"}]
    for settings in variants:
        tokenizer = train(LINES * 5, vocab_size=400, **settings)
        for _ in range(200):
            data = bytes(rng.choices(range(256), k=rng.randrange(40)))
            assert tokenizer.decode_bytes(tokenizer.encode(data)) == data  # type: ignore[attr-defined]
        for _ in range(100):
            text = "".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(20)))
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_offsets_count_characters() -> None:
    tokenizer = load("english-wordpiece-8k")
    line = "Ünïted Stätes, 😀 now"
    found = [(tokenizer.names[i], line[a:b]) for i, (a, b) in tokenizer.encode_spans(line)]
    assert found[0] == ("united", "Ünïted")
    assert ("[UNK]", "😀") in found
    combining = "cafe\u0301 bar"  # e with an accent of its own: both are the e's
    assert [combining[a:b] for _, (a, b) in tokenizer.encode_spans(combining)][-1] == "bar"
    out = run("tokenize", "--text", "naïve cat", "--offsets").out
    assert out.endswith("Ġcat:5-9\n")


def test_a_small_text_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom dlkit.tokenize import load, train\n"
        "assert load().decode(load().encode('hello')) == 'hello'\n"
        "heavy = {'torch', 'numpy', 'numba', 'sentencepiece'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
        "train(['hello hello'], vocab_size=258)\n"
        "heavy = {'torch', 'numba'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_errors_of_files_that_are_no_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for content, message in [
        ("{", "not JSON"),
        ("[]", "not a tokenizer"),
        ('{"header": {"task": "tokenize"}}', "not a tokenizer"),
        ('{"model": {}, "added_tokens": []}', "not a tokenizer"),
        ("\xff", "not a tokenizer"),
    ]:
        path.write_text(content)
        line = error_line("--text", "x", "-m", path)
        assert message in line
        assert str(path) in line
    assert "english-8k" in error_line("--text", "x", "-m", "english")
    assert "no such" in error_line("--text", "x", "-m", tmp_path / "none.json")
    path.write_text(load().to_json().replace('"byte-bpe"', '"unknown-kind"'))
    assert "not a tokenizer" in error_line("--text", "x", "-m", path)


def test_dropout_does_not_use_cached_pieces() -> None:
    word = "internationalization" * 4
    fresh, used = load(), load()
    assert used.decode(used.encode(word)) == word
    random.seed(0)
    expected = fresh.encode(word, dropout=0.9)
    random.seed(0)
    assert used.encode(word, dropout=0.9) == expected != used.encode(word)


def test_show_builds_a_word_with_every_kind_of_tokenizer() -> None:
    for algorithm in ("byte-bpe", "bpe", "wordpiece", "words", "unigram"):
        size = 80 if algorithm == "unigram" else 400
        tokenizer = train(LINES * 5, algorithm=algorithm, vocab_size=size)
        steps = list(show.steps(tokenizer, "quick"))
        assert steps[-1].word == " ".join(map(format_token, tokenizer.tokens("quick")))
