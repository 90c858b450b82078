"""Text to ids and back: a tokenizer, and the tokens that mark the ends of lines and texts.

Some tokenizers drop the ends of lines (words, wordpiece, unigram). With them a line ends with a
special token, if they have one: `</s>` in those that `train` learns.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypedDict

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.lm_generate.config import LEARNED
from dlkit.tokenize import Tokenizer, load, train

BEGIN = ("<s>", "<bos>", "[BOS]", "<|startoftext|>", "<|endoftext|>", "</s>", "<eos>")
END = ("</s>", "<eos>", "[EOS]")
PIECE = 1 << 18  # characters that a thread encodes at once
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))  # mark the gaps of T5's texts
# The special tokens that architectures need of a tokenizer that is learned.
SPECIAL_TOKENS = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "t5": ("<pad>", "</s>", "<unk>", *SENTINELS),
}
SUFFIX = "##"  # begins the tokens that continue a word


class SpecialSettings(TypedDict, total=False):
    """The entries of a model's header about special tokens and dialogues."""

    begin: int  # the id that begins each text
    ends: list[int]  # those that end one
    decoder_start: int  # that begins the output of an encoder-decoder
    parse_special: bool
    chat_template: str
    chat_tokens: dict[str, str]
    generation: dict[str, Any]


class TextCodec:
    """Encodes texts as ids from 0 to `size` - 1, and decodes them with their lines."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.size = max(tokenizer.names) + 1
        self.begin = first_special(BEGIN, tokenizer)  # begins each text; None: no such token
        self.parse_special = False  # whether special tokens written in a text are read as such
        self.keeps_lines = tokenizer.algorithm == "char" or (
            tokenizer.decode(tokenizer.encode("\n")) == "\n"
        )
        # Replaces the end of a line, where the tokenizer drops it.
        self.line_end = None if self.keeps_lines else first_special(END, tokenizer)

    @classmethod
    def learn(
        cls, texts: Iterable[str], algorithm: str, vocab_size: int, arch: str, lower: bool = False
    ) -> "TextCodec":
        """Learn a tokenizer from texts, with the special tokens that the architecture needs."""
        special = SPECIAL_TOKENS.get(arch, ())
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
        return cls(add_line_break(learned) if algorithm == "char" else learned)

    @classmethod
    def named(cls, name: str) -> "TextCodec":
        """The codec of a tokenizer of this name or file."""
        try:
            return cls(load(name))
        except DlkitError as error:
            raise DlkitError(f"{error}; or learned from the text: {', '.join(LEARNED)}") from error

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "TextCodec":
        """The codec of a checkpoint, from `header.settings["tokenizer"]`."""
        return cls(Tokenizer.from_settings(settings))

    def read_special(self, settings: Mapping[str, Any]) -> None:
        """Take over how a model's header reads special tokens, and with which a text begins.

        Raises DlkitError for entries of other types, and ids that the tokenizer does not have.
        """
        known = SpecialSettings.__annotations__
        schema.check({k: v for k, v in settings.items() if k in known}, SpecialSettings, "")
        ids = [settings[k] for k in ("begin", "decoder_start") if k in settings]
        for number in [*ids, *settings.get("ends", [])]:
            if number not in self.tokenizer.names:
                raise DlkitError(f"{number} is no token of its tokenizer")
        self.begin = settings.get("begin", self.begin)
        self.parse_special = settings.get("parse_special", False)

    def to_settings(self) -> dict[str, Any]:
        """The content of the tokenizer's file, for a checkpoint's header."""
        return self.tokenizer.to_settings()

    def encode(self, text: str) -> list[int]:
        """Encode a text, without the token that begins it."""
        parse_special = self.parse_special
        if self.line_end is None:
            return self.tokenizer.encode(text, parse_special)
        ids: list[int] = []
        for number, line in enumerate(text.split("\n")):
            if number:
                ids.append(self.line_end)
            ids += self.tokenizer.encode(line, parse_special)
        return ids

    def encode_blocks(self, blocks: Iterable[str], workers: int = 1) -> Iterator[np.ndarray]:
        """Encode a large text that comes in blocks of whole lines, as arrays of int64."""
        for block in blocks:
            if self.line_end is None:
                for group in batched(split_pieces(block), 4 * workers):
                    parts = self.encode_lines(group, workers)
                    yield np.concatenate([np.array(ids, np.int64) for ids in parts])
                continue
            encoded = self.encode_lines(block.split("\n"), workers)
            ids = [i for line in encoded for i in (*line, self.line_end)]
            yield np.array(ids[:-1], np.int64)  # after the last line, as in `encode`

    def encode_lines(self, texts: Sequence[str], workers: int) -> list[list[int]]:
        """The ids of each text, in threads where no special tokens are to be read."""
        if self.parse_special:
            return [self.tokenizer.encode(text, True) for text in texts]
        return self.tokenizer.encode_batch(texts, workers)

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to a text with its lines."""
        if self.line_end is None:
            return self.tokenizer.decode(ids)
        lines: list[list[int]] = [[]]
        for i in ids:
            if i == self.line_end:
                lines.append([])
            else:
                lines[-1].append(i)
        return "\n".join(self.tokenizer.decode(line) for line in lines)


def add_line_break(tokenizer: Tokenizer) -> Tokenizer:
    """Add the line break to a tokenizer of characters, which are learned without it."""
    content = tokenizer.to_settings()
    content["vocab"]["\n"] = max(tokenizer.names) + 1
    del content["sha256"]
    return Tokenizer.from_settings(content)


def first_special(names: Iterable[str], tokenizer: Tokenizer) -> int | None:
    """The id of the first of these special tokens that the tokenizer has."""
    return next((tokenizer.special[name] for name in names if name in tokenizer.special), None)


def split_pieces(text: str) -> Iterator[str]:
    """Split a text at line breaks or spaces into pieces that are large enough for a thread."""
    start = 0
    while len(text) - start > PIECE:
        line = text.find("\n", start + PIECE, start + 2 * PIECE) + 1
        end = line or text.find(" ", start + PIECE)
        if end == -1:
            break
        yield text[start:end]
        start = end
    yield text[start:]


def batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of at most `size` items."""
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group


def insert(token: str, before: str, after: str) -> str:
    """Put a token in the gap of a text; one that continues a word needs no space before it."""
    if token.startswith(SUFFIX):
        return before.rstrip(" ") + token.removeprefix(SUFFIX) + after
    if token.startswith(" "):
        before = before.rstrip(" ")
    return before + token + after
