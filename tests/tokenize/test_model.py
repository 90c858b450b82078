"""Tokenizers: round trips, files, offsets, bytes, and nothing heavy for a small text."""

import json
import pickle
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.tokenize import Tokenizer, bpe, load, show, train
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


def test_dropout_skips_each_possible_merge_with_its_probability() -> None:
    ranks = {(1, 2): (0, 3), (2, 1): (1, 4), (3, 3): (2, 5), (3, 1): (3, 6), (5, 3): (4, 7)}
    dropout = 0.4

    def outcomes(word: tuple[int, ...], probability: float) -> Counter[tuple[int, ...]]:
        """The probability of each result: the first pair that is not skipped is merged."""
        found: Counter[tuple[int, ...]] = Counter()
        possible = [(*ranks[pair], i) for i, pair in enumerate(pairwise(word)) if pair in ranks]
        for _, new, i in sorted(possible, key=lambda item: (item[0], item[2])):
            merged = (*word[:i], new, *word[i + 2 :])
            found += outcomes(merged, probability * (1 - dropout))
            probability *= dropout
        found[word] += probability  # type: ignore[assignment]
        return found

    random.seed(1)
    word = (1, 2, 1, 2, 1, 2)
    draws = Counter(tuple(bpe.apply_merges(word, ranks, dropout)) for _ in range(20_000))
    expected = outcomes(word, 1.0)
    assert set(draws) <= set(expected)
    for result, share in expected.items():
        assert abs(draws[result] / 20_000 - share) < 0.015, result


def test_long_words_take_linear_time() -> None:
    tokenizer = load("english-8k")
    word = "abcdefgh" * 20_000  # an hour, if each merge looked at the whole word
    began = time.process_time()
    assert tokenizer.decode(tokenizer.encode(word, dropout=0.1)) == word
    assert time.process_time() - began < 20
    assert error_line("show", "a" * 1001) == (
        "dlkit: a word of 1001 characters; at most 1000 are shown\n"
    )


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of a tokenizer's file."""
    *above, last = path.split("/")

    def apply(content: Any) -> None:
        for key in above:
            content = content[key]
        content[last] = value

    return apply


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("header/settings", 5),
        ("header/settings/normalize", "lower"),
        ("header/settings/normalize", ["lower", 3]),
        ("header/settings/split", 7),
        ("header/settings/unk", "<no>"),
        ("header/settings/unk", []),
        ("header/settings/mark", "star"),
        ("header/settings/by_rank", "yes"),
        ("vocab", ["a"]),
        ("vocab/l", "x"),
        ("vocab/l", float("nan")),
        ("vocab/l", -1),
        ("vocab/l", True),
        ("special", None),
        ("special", {"<unk>": 1 << 40}),
        ("merges", "ab"),
        ("merges", [["a", 1]]),
        ("merges", [["a", "b", "c"]]),
        ("vocab", {"\ud800": 3}),
    ],
)
def test_a_file_with_a_part_of_another_type_is_refused(
    where: str, value: Any, tmp_path: Path
) -> None:
    content = json.loads(train("low low lower", algorithm="bpe", vocab_size=12).to_json())
    content["special"] = {"<unk>": 50}
    content["header"]["settings"]["unk"] = "<unk>"
    del content["sha256"]
    assert Tokenizer.from_json(json.dumps(content)).encode("xlow")[0] == 50
    change(where, value)(content)
    with pytest.raises(DlkitError):
        Tokenizer.from_json(json.dumps(content)).to_json()
    path = tmp_path / "t.json"
    path.write_text(json.dumps(content))
    assert str(path) in error_line("--text", "xlow", "-m", path)
