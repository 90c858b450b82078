"""Settings of `dlkit tokenize`. Loads no torch."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from dlkit.core.config import argument, option

DEFAULT_MODEL = "english-8k"


class Algorithm(StrEnum):
    bpe = "bpe"
    byte_bpe = "byte-bpe"
    wordpiece = "wordpiece"
    unigram = "unigram"
    sentencepiece_bpe = "sentencepiece-bpe"
    char = "char"
    byte = "byte"
    whitespace = "whitespace"
    words = "words"


class Mark(StrEnum):
    end_of_word = "end-of-word"
    word_start = "word-start"
    none = "none"


@dataclass(kw_only=True)
class TokenizeTrainConfig:
    """What a tokenizer learns from, and how; the field names are the options' names."""

    corpus: list[str] = argument("Text files (plain, .gz, .zst), folders of them, or - for stdin.")
    out: Path = option(Path("tokenizer.json"), "The tokenizer's file.", short=("-o",))
    algorithm: Algorithm = option(Algorithm.byte_bpe, "How text becomes tokens.", short=("-a",))
    vocab_size: int = option(8000, "Tokens to end with, special ones included.", min=1)
    min_count: int = option(2, "Learn nothing that occurs less often.", min=1)
    split: str | None = option(
        None,
        "How text is cut before tokens are learned: gpt2, gpt4, whitespace, bert, words, none or a "
        "pattern; default: gpt2 for byte-bpe, bert for wordpiece, whitespace for bpe.",
    )
    mark: Mark = option(Mark.end_of_word, "bpe: how a token shows where its word ends or starts.")
    score: Literal["count", "likelihood"] = option(
        "count",
        "wordpiece: merge the most frequent pair, as today's trainers do, or the pair of highest "
        "count(ab) / (count(a) count(b)), as in the paper.",
    )
    normalize: str = option(
        "none", "Comma-separated, in this order: none, nfc, nfkc, lower, strip-accents."
    )
    special: list[str] = option((), "A special token, or TOKEN=ID; by default they count from 0.")
    limit_alphabet: int | None = option(
        None, "Keep only this many characters, the most frequent.", min=1
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Bytes that are not UTF-8: an error, or replaced."
    )
    seed: int = option(0, "Seed of what is drawn at random (unigram's sample of a large corpus).")
    workers: int = option(2, "Threads or processes that read and count.", min=1)
    force: bool = option(False, "Overwrite the tokenizer's file.")
