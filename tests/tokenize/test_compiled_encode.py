"""Compiled encoding of long words, compared with the merges in Python."""

import random
from typing import Any

import pytest

from dlkit.tokenize import train


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["end-of-word", "word-start", "none", "bytes"])
def test_long_words_are_merged_in_windows(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than two windows without a space, of few letters, against the merges in Python."""
    lines = ["banana bandana nabob ab ba abba aa aaaa "] * 3
    settings: dict[str, Any] = {"vocab_size": 280, "algorithm": "byte-bpe"}
    if mark != "bytes":
        settings = {"vocab_size": 30, "algorithm": "bpe", "mark": mark}
    tokenizer = train(lines, min_count=1, **settings)
    monkeypatch.setattr("dlkit.tokenize.model.COMPILED_SIZE", 1 << 30)
    rng = random.Random(mark)
    for letters in ("a", "ab", "abn", "abxé"):
        word = "".join(rng.choices(letters, k=150_000))
        assert tokenizer.encode_compiled([word], "none") == [tokenizer.piece_ids(word)]
