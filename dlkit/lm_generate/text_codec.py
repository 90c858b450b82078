"""Text as ids: a tokenizer, and the tokens that stand for the ends of lines and texts.

Some tokenizers drop the ends of lines (words, wordpiece, unigram). With them a line ends with a
special token, where there is one: `</s>` in those that `train` learns.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.lm_generate.config import LEARNED
from dlkit.tokenize import Tokenizer, load, train

BEGIN = ("<s>", "<bos>", "[BOS]", "<|startoftext|>", "<|endoftext|>", "</s>", "<eos>")
END = ("</s>", "<eos>", "[EOS]")
PIECE = 1 << 18  # characters that a thread encodes at once
OF_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))  # those of T5


class TextCodec:
    """What a language model reads and writes: ids, from 0 to `size` - 1."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.size = max(tokenizer.names) + 1
        self.begin = first_of(BEGIN, tokenizer)  # what a text starts with, if there is such a token
        self.keeps_lines = tokenizer.algorithm == "char" or (
            tokenizer.decode(tokenizer.encode("\n")) == "\n"
        )
        # What the end of a line becomes, where the tokenizer drops it.
        self.line_end = None if self.keeps_lines else first_of(END, tokenizer)

    @classmethod
    def learn(
        cls, texts: Iterable[str], algorithm: str, vocab_size: int, arch: str, lower: bool = False
    ) -> "TextCodec":
        """Units learned from texts, with the special tokens that the architecture needs."""
        special = {"bert": OF_BERT, "t5": ("<pad>", "</s>", "<unk>", *SENTINELS)}.get(arch, ())
        if not special and algorithm not in {"char", "byte", "byte-bpe"}:
            special = ("<unk>", "</s>")
        learned = train(
            texts,
            algorithm=algorithm,
            vocab_size=vocab_size,
            special=list(special),
            normalize="lower" if lower else "none",
            # A character of the text is never unknown.
            min_count=1 if algorithm == "char" else 2,
        )
        return cls(with_lines(learned) if algorithm == "char" else learned)

    @classmethod
    def named(cls, name: str) -> "TextCodec":
        """The units of a tokenizer of this name or file."""
        try:
            return cls(load(name))
        except DlkitError as error:
            raise DlkitError(f"{error}; or learned from the text: {', '.join(LEARNED)}") from error

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "TextCodec":
        """The units of a checkpoint: `header.settings["tokenizer"]`."""
        return cls(Tokenizer.from_settings(settings))

    def to_settings(self) -> dict[str, Any]:
        """The content of the tokenizer's file, for a checkpoint's header."""
        return self.tokenizer.to_settings()

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """The ids of a text, without the token that begins it."""
        if self.line_end is None:
            return self.tokenizer.encode(text, parse_special)
        ids: list[int] = []
        for number, line in enumerate(text.split("\n")):
            if number:
                ids.append(self.line_end)
            ids += self.tokenizer.encode(line, parse_special)
        return ids

    def encode_blocks(self, blocks: Iterable[str], workers: int = 1) -> Iterator[np.ndarray]:
        """The ids of a large text that comes in blocks of whole lines, in arrays of int64."""
        for block in blocks:
            if self.line_end is None:
                for some in in_groups(pieces(block), 4 * workers):
                    parts = self.tokenizer.encode_batch(some, workers)
                    yield np.concatenate([np.array(ids, np.int64) for ids in parts])
                continue
            encoded = self.tokenizer.encode_batch(block.split("\n"), workers)
            ids = [i for line in encoded for i in (*line, self.line_end)]
            yield np.array(ids[:-1], np.int64)  # after the last line, as in `encode`

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, with its lines."""
        if self.line_end is None:
            return self.tokenizer.decode(ids)
        lines: list[list[int]] = [[]]
        for i in ids:
            if i == self.line_end:
                lines.append([])
            else:
                lines[-1].append(i)
        return "\n".join(self.tokenizer.decode(line) for line in lines)


def with_lines(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer of characters that also knows the end of a line: they are learned without it."""
    content = tokenizer.to_settings()
    content["vocab"]["\n"] = max(tokenizer.names) + 1
    del content["sha256"]
    return Tokenizer.from_settings(content)


def first_of(names: Iterable[str], tokenizer: Tokenizer) -> int | None:
    """The id of the first of these special tokens that the tokenizer has."""
    return next((tokenizer.special[name] for name in names if name in tokenizer.special), None)


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of whole lines, or of whole words, each large enough for a thread."""
    start = 0
    while len(text) - start > PIECE:
        line = text.find("\n", start + PIECE, start + 2 * PIECE) + 1
        end = line or text.find(" ", start + PIECE)
        if end == -1:
            break
        yield text[start:end]
        start = end
    yield text[start:]


def in_groups(items: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group
