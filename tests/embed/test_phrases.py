"""Frequent pairs of words are joined."""

from pathlib import Path

import numpy as np

from dlkit.embed import phrases
from dlkit.embed.config import EmbedTrainConfig, resolve_config
from tests.conftest import run


def test_phrases_by_hand(tmp_path: Path) -> None:
    """T (count(a b) - min_count) / (count(a) count(b)): 30 words, new york 3 of 3 and 3."""
    path = tmp_path / "a.txt"
    path.write_text("in new york new york\na new york b c d e f g\n" + "x y\n" * 8)
    config = EmbedTrainConfig(
        corpus=[str(path)], phrases=1, min_count=1, threshold=30 * 2 / 9 - 0.01
    )
    text = b"".join(phrases.corpus_with_phrases(resolve_config(config))).decode()
    assert text.splitlines()[:2] == ["in new_york new_york", "a new_york b c d e f g"]
    config = EmbedTrainConfig(
        corpus=[str(path)], phrases=1, min_count=1, threshold=30 * 2 / 9 + 0.01
    )
    assert b"".join(phrases.corpus_with_phrases(resolve_config(config))) == path.read_bytes()


def test_phrases_are_joined(tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus.txt", tmp_path / "joined.txt"
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(200)]
    lines = [[*rng.permutation(words), "new", "york", *rng.permutation(words)] for _ in range(6)]
    corpus.write_text("".join(" ".join(line) + "\n" for line in lines))
    options = ["--min-count", 1, "--threshold", 100]
    result = run("embed", "phrases", corpus, *options)
    assert result.code == 0, result.err
    assert run("embed", "phrases", corpus, *options, "-o", out).code == 0
    assert out.read_text() == result.out
    assert [line.split()[200] for line in result.out.splitlines()] == ["new_york"] * 6
