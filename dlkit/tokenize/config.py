"""Settings of `dlkit tokenize`. Loads no torch."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from dlkit.core.config import argument, option

DEFAULT_MODEL = "english-8k"


class Algorithm(StrEnum):
    """The kinds of tokenizers."""

    bpe = "bpe"
    byte_bpe = "byte-bpe"
    wordpiece = "wordpiece"
    unigram = "unigram"
    sentencepiece_bpe = "sentencepiece-bpe"
    char = "char"
    byte = "byte"
    whitespace = "whitespace"
    words = "words"


class FileFormat(StrEnum):
    """The formats of a tokenizer's file that `convert` writes."""

    dlkit = "dlkit"
    huggingface = "huggingface"
    gpt2 = "gpt2"
    bert = "bert"
    tiktoken = "tiktoken"
    sentencepiece = "sentencepiece"


class Mark(StrEnum):
    """The mark of tokens at the end or start of a word."""

    end_of_word = "end-of-word"
    word_start = "word-start"
    none = "none"


@dataclass(frozen=True)
class ReadOptions:
    """The parts of a tokenizer that another tool's file lacks; None: as usual for its kind."""

    split: str | None = None
    normalize: str | None = None


@dataclass(kw_only=True)
class TokenizeTrainConfig:
    """The settings of a training; the options have the names of the fields."""

    corpus: list[str] = argument(
        "Text files (plain or compressed), folders of them, or - for stdin.", group="Data"
    )
    out: Path = option(
        Path("tokenizer.json"), "The tokenizer's file.", short=("-o",), group="Run and cluster"
    )
    algorithm: Algorithm = option(
        Algorithm.byte_bpe, "Kind of tokenizer.", short=("-a",), group="Tokenizer"
    )
    vocab_size: int = option(
        8000, "Size of the vocabulary, with the special tokens.", min=1, group="Tokenizer"
    )
    min_count: int = option(
        2, "Smallest count of a pair or word that becomes a token.", min=1, group="Tokenizer"
    )
    split: str | None = option(
        None,
        "How text is split into pre-tokens: gpt2, gpt4, whitespace, bert, words, none or a regular "
        "expression; default: gpt2 for byte-bpe, bert for wordpiece, whitespace for bpe.",
        group="Tokenizer",
    )
    mark: Mark = option(
        Mark.end_of_word, "bpe: mark of tokens at the end or start of a word.", group="Tokenizer"
    )
    score: Literal["count", "likelihood"] = option(
        "count",
        "wordpiece: merge the most frequent pair, as today's trainers do, or the pair with the "
        "highest count(ab) / (count(a) count(b)), as in the paper.",
        group="Tokenizer",
    )
    normalize: str = option(
        "none",
        "Normalization, comma-separated, in order: none, nfc, nfkc, lower, strip-accents.",
        group="Tokenizer",
    )
    special: list[str] = option(
        (), "A special token, or TOKEN=ID; by default the ids start at 0.", group="Tokenizer"
    )
    limit_alphabet: int | None = option(
        None, "Keep only this many characters, the most frequent.", min=1, group="Tokenizer"
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Handling of bytes that are not UTF-8: an error, or U+FFFD.", group="Data"
    )
    seed: int = option(0, "Seed of unigram's sample of a large corpus.", group="Run and cluster")
    workers: int = option(
        2, "Threads or processes that read and count.", min=1, group="Run and cluster"
    )
    force: bool = option(False, "Overwrite the tokenizer's file.", group="Run and cluster")
