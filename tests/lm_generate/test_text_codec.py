"""Encoding and decoding texts."""

from itertools import pairwise

import numpy as np
import pytest

from dlkit.lm_generate.generate import GrowingText, Limits
from dlkit.lm_generate.text_codec import TextCodec, split_pieces
from dlkit.tokenize import train as train_tokenizer
from tests.lm_generate.helpers import random_text

MIXED_WORDS = ["naïve", "日本", "the", "cat's", "🎉", "re-read"]


@pytest.mark.parametrize(
    "algorithm",
    ["byte", "char", "byte-bpe", "bpe", "wordpiece", "words", "unigram"],
)
def test_pieces_are_the_whole_text(algorithm: str) -> None:
    """Token by token the text is what decoding all at once gives, and characters stay whole."""
    corpus = [" ".join(MIXED_WORDS) + " and so on for a while"] * 4
    size = {"byte": 8000, "byte-bpe": 300, "unigram": 60}.get(algorithm, 80)
    tokenizer = train_tokenizer(corpus, algorithm=algorithm, vocab_size=size, min_count=1)
    codec = TextCodec(tokenizer)
    rng = np.random.default_rng(0)
    for _ in range(20):
        words = [MIXED_WORDS[i] for i in rng.integers(len(MIXED_WORDS), size=8)]
        prompt, rest = " ".join(words[:3]), " ".join(words[3:])
        ids = codec.encode(f"{prompt} {rest}")
        known = len(codec.encode(prompt))
        text = GrowingText(codec, prompt, ids[:known], Limits(1000), ())
        pieces = [text.add(i, 0.0) for i in ids[known:-1]]
        text.limits = Limits(0)
        pieces.append(text.add(ids[-1], 0.0))
        assert "".join(pieces) == codec.decode(ids)[len(codec.decode(ids[:known])) :]
        assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    codec = TextCodec(train_tokenizer(["a"], algorithm="byte"))
    rng = np.random.default_rng(0)
    data = rng.integers(256, size=300).astype(np.uint8).tobytes()
    ids = codec.tokenizer.encode(data)
    text = GrowingText(codec, "", [], Limits(len(ids)), ())
    assert "".join(text.add(i, 0.0) for i in ids) == data.decode("utf-8", "replace")


def test_a_space_that_ends_the_prompt_is_not_doubled() -> None:
    codec = TextCodec(
        train_tokenizer(["the cat sat"] * 3, algorithm="words", vocab_size=20, min_count=1)
    )
    for prompt, piece in (("the ", "cat"), ("the", " cat")):
        text = GrowingText(codec, prompt, codec.encode(prompt), Limits(9), ())
        assert text.add(codec.encode("cat")[0], 0.0) == piece


@pytest.mark.parametrize("algorithm", ["char", "byte", "byte-bpe", "words", "whitespace", "bpe"])
def test_a_codec_decodes_the_text_with_its_lines(algorithm: str) -> None:
    text = random_text(30)
    codec = TextCodec.learn([text], algorithm, 300, "gpt")
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    assert max(ids) < codec.size
    for copy in (TextCodec.from_settings(codec.to_settings()), codec):
        in_blocks = list(copy.encode_blocks(text.splitlines(keepends=True)))
        assert np.concatenate(in_blocks).tolist() == ids
    ends = algorithm in {"words", "whitespace", "bpe"}
    assert (codec.line_end is not None) == ends
    assert codec.begin == codec.line_end
    if ends:
        assert ids.count(codec.tokenizer.special["</s>"]) == text.count("\n")


def test_a_long_text_is_encoded_in_pieces_of_whole_lines_or_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dlkit.lm_generate.text_codec.PIECE", 1000)
    for text in (random_text(400), random_text(400).replace("\n", " ")):
        cut = list(split_pieces(text))
        assert "".join(cut) == text
        assert len(cut) > 5
        assert all(piece[-1] == "\n" or after[0] == " " for piece, after in pairwise(cut))
        codec = TextCodec.learn([text], "char", 300, "gpt")
        assert np.concatenate(list(codec.encode_blocks([text], 2))).tolist() == codec.encode(text)


def test_special_tokens_are_those_of_the_architecture() -> None:
    bert = TextCodec.learn([random_text(9)], "char", 300, "bert")
    assert bert.tokenizer.encode("[MASK]", parse_special=True) == [bert.tokenizer.special["[MASK]"]]
    t5 = TextCodec.learn([random_text(9)], "words", 300, "t5")
    assert {"<pad>", "</s>", "<extra_id_0>", "<extra_id_99>"} <= t5.tokenizer.special.keys()
