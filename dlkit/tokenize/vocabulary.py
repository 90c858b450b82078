"""The vocabulary of a decoder: a tokenizer with padding, start, end and unknown tokens."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

from dlkit.core.errors import DlkitError
from dlkit.tokenize.config import Algorithm
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import Tokenizer

PAD, BEGIN, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
# Their names in other tokenizers, by role.
SPECIAL_NAMES = {
    "pad": (PAD, "[PAD]"),
    "bos": (BEGIN, "<bos>", "[CLS]"),
    "eos": (END, "<eos>", "[SEP]", "<|endoftext|>"),
    "unk": (UNKNOWN, "[UNK]"),
}


class DecoderVocabulary:
    """A tokenizer and the special tokens a decoder needs: ids from 0 to `size` - 1.

    `pad`, `bos`, `eos` and `unk` are the ids of <pad>, <s>, </s> and <unk>. A special token that
    the tokenizer lacks gets an id after the tokenizer's own.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.size = max(tokenizer.names) + 1
        self.pad, self.bos, self.eos, self.unk = map(self.special_id, SPECIAL_NAMES)

    def special_id(self, role: str) -> int:
        """The id of the tokenizer's token for this role, or a new id."""
        for name in SPECIAL_NAMES[role]:
            if name in self.tokenizer.special:
                return self.tokenizer.special[name]
        self.size += 1
        return self.size - 1

    @classmethod
    def learn(
        cls, texts: Iterable[str], algorithm: str, vocab_size: int, lower: bool = False
    ) -> Self:
        """Train a tokenizer on these texts."""
        from dlkit.tokenize.train import train  # not needed where a model is only used

        tokenizer = train(
            texts,
            algorithm=algorithm,
            vocab_size=vocab_size,
            special=[PAD, BEGIN, END, UNKNOWN],
            normalize="lower" if lower else "none",
        )
        return cls(tokenizer)

    @classmethod
    def load(cls, name: str) -> Self:
        """Load a tokenizer by name or file."""
        try:
            return cls(load(name))
        except DlkitError as error:
            raise DlkitError(
                f"{error}; or learned from the text: {', '.join(Algorithm)}"
            ) from error

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Restore the vocabulary of a checkpoint from `header.settings["tokenizer"]`."""
        return cls(Tokenizer.from_settings(settings))

    def to_settings(self) -> dict[str, Any]:
        """The content of the tokenizer's file, for a checkpoint's header."""
        return self.tokenizer.to_settings()

    def network_settings(self) -> dict[str, int]:
        """The arguments of `build()` that depend on the vocabulary."""
        ids = {"pad": self.pad, "bos": self.bos, "eos": self.eos, "unk": self.unk}
        return {"vocab_size": self.size, **ids}

    def encode_targets(self, texts: Sequence[str], workers: int = 1) -> list[list[int]]:
        """Encode targets, each between <s> and </s>."""
        encoded = self.tokenizer.encode_batch(texts, workers)
        return [[self.bos, *ids, self.eos] for ids in encoded]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids before the first </s>, as one line."""
        kept = []
        for i in ids:
            if i == self.eos:
                break
            if i not in {self.pad, self.bos}:
                kept.append(i)
        known = [i for i in kept if i in self.tokenizer.names]
        return " ".join(self.tokenizer.decode(known).split())
