"""Corpora encoded as ids, and corpora that nothing can be learned from."""

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.embed import data
from dlkit.embed.config import EmbedTrainConfig, resolve_config
from dlkit.embed.corpus import normalize
from dlkit.embed.data import Corpus
from tests.conftest import run


def encode(tmp_path: Path, stdin: str | None = None, **changed: Any) -> Corpus:
    config = resolve_config(EmbedTrainConfig(**{"min_count": 1, **changed}))
    with data.encode_corpus(config, tmp_path / "run") as found:
        return Corpus(found.words, found.counts, np.array(found.ids), found.total)


def test_a_corpus_as_ids(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_text("b a a\n\nc\na b x\u00a0y")
    packed.write_bytes(gzip.compress(b"a\tb\n"))
    corpus = encode(tmp_path, corpus=[str(plain), str(packed)], min_count=2)
    assert corpus.words == ["a", "b"]
    assert corpus.counts.tolist() == [4, 3]
    assert corpus.ids.tolist() == [1, 0, 0, -1, 0, 1, -1, 0, 1, -1]
    assert corpus.total == 9
    assert not list((tmp_path / "run").iterdir())


def test_text_is_lowercased_and_split_into_words(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Don't STOP: it's 'quoted' snake_case, Größe!\n")
    corpus = encode(tmp_path, corpus=[str(path)], lower=True, words=True)
    assert corpus.words == ["don't", "stop", "it's", "quoted", "snake", "case", "größe"]
    assert encode(tmp_path, corpus=[str(path)]).words[1] == "STOP:"


def test_long_lines_are_split() -> None:
    ids = np.append(np.arange(2500) % 7, [-1, 3, -1, -1, 4, 5, -1]).astype(np.int32)
    found = data.split_sentences(ids)
    assert np.diff(np.flatnonzero(found == -1), prepend=-1).tolist() == [1001, 1001, 501, 3]
    edges = data.chunk_bounds(found, 1200)
    assert edges[0] == 0
    assert edges[-1] == len(found)
    assert all(found[edge - 1] == -1 for edge in edges[1:])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", [], "the corpus is empty"),
        (b" \n \n", [], "the corpus is empty"),
        (b"a a a a a a\n", [], "only one word, 'a'"),
        (b"a b a b\n", [], "no word of the corpus occurs 5 times .* lower --min-count"),
        (b"a a a a a b\n", [], "only 'a' is left of 2 words; lower --min-count 5"),
        (b"a\nb\n" * 5, [], "no line of the corpus holds two words"),
        (b"good \xff\n", [], "byte 5 is not UTF-8 .*--errors replace continues"),
        (b"a b\n", ["--bucket", "9"], "--bucket is for fasttext, not skipgram"),
        (
            b"a b\n",
            ["--hs", "--negative", "3"],
            "--negative has no effect with --hs; give only one",
        ),
        (b"a b\n", ["--threshold", "3"], "--threshold has no effect without --phrases"),
        (
            b"a b\n",
            ["--method", "glove", "--sample", "1"],
            "--sample is for skipgram, cbow, fasttext, not glove",
        ),
    ],
)
def test_unusable_corpora_and_options_are_one_line(
    tmp_path: Path, content: bytes, options: list[str], message: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    result = run("embed", "train", path, "--out", tmp_path / "run", *options)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert re.search(message, result.err), result.err


def test_marks_belong_to_words() -> None:
    text = "लड़की पानी, ภาษาไทย ที่นี่! cafe\u0301's 1_2"
    found = normalize(text.encode(), lower=False, words=True).decode()
    assert found == "लड़की पानी ภาษาไทย ที่นี่ cafe\u0301's 1 2"
