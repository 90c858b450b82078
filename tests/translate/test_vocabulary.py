"""The vocabulary of sources and targets."""

import json
from pathlib import Path
from unittest import mock

import pytest

from dlkit.tokenize import train as train_tokenizer
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.translate.helpers import sentences


# TranslationVocabulary.
@pytest.mark.parametrize(
    "algorithm", ["byte-bpe", "sentencepiece-bpe", "unigram", "wordpiece", "char", "byte"]
)
def test_sentences_are_framed_and_come_back(algorithm: str) -> None:
    texts = [text for both in zip(*sentences(50, 0), strict=True) for text in both]
    with mock.patch("sys.stderr"):
        vocabulary = TranslationVocabulary.learn(
            texts, algorithm, 300 if "byte" in algorithm else 40
        )
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk) == (0, 1, 2, 3)
    ((first, *ids, last),) = vocabulary.encode_targets(["zwei fünf"])
    assert (first, last) == (vocabulary.bos, vocabulary.eos)
    assert max(ids) < vocabulary.size
    assert vocabulary.decode([first, *ids, last, *ids, vocabulary.pad]) == "zwei fünf"
    # A special token that is written in a text is text.
    assert vocabulary.eos not in vocabulary.encode_targets(["one </s>"])[0][1:-1]
    again = TranslationVocabulary.from_settings(json.loads(json.dumps(vocabulary.to_settings())))
    assert again.encode_sources([["one"]]) == vocabulary.encode_sources([["one"]])


def test_each_turn_of_a_source_ends() -> None:
    vocabulary = TranslationVocabulary.learn(["a b c"], "whitespace", 7)
    a, b, c = vocabulary.encode_targets(["a b c"])[0][1:-1]
    end = vocabulary.eos
    assert vocabulary.encode_sources([["a b", "c"], ["b"]]) == [[a, b, end, c, end], [b, end]]


def test_a_tokenizer_without_special_tokens_gets_new_ids(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(train_tokenizer(["ab"], algorithm="byte", special=["</s>"]).to_json())
    vocabulary = TranslationVocabulary.load(str(file))
    own = vocabulary.tokenizer.special["</s>"]
    assert vocabulary.eos == own
    new = [vocabulary.pad, vocabulary.bos, vocabulary.unk]
    assert new == [257, 258, 259]
    assert vocabulary.size == 260
    assert vocabulary.decode([*new, *vocabulary.tokenizer.encode("ab"), own]) == "ab"
