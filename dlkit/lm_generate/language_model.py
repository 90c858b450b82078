"""The interface of a trained language model, counted or neural. Loads no torch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate.generate import TextBatch
from dlkit.lm_generate.results import FilledText, Token
from dlkit.lm_generate.text_codec import TextCodec

SEPARATORS = ("<|endoftext|>", "<|end_of_text|>")  # end a text and begin the next
END = ("</s>", "<eos>", "[EOS]", *SEPARATORS)
# The verbs that not every kind of model has, for the error of those that lack one.
VERBS = {
    "generate": "continue texts; choose a model of another --arch than bert and bilm",
    "score": "score texts; choose a model of another --arch",
    "fill": "fill gaps; choose a model of --arch bert or t5",
    "features": "compute features; choose a model of --arch bilm or bert",
}


class LanguageModel(ABC):
    """A trained language model with its text codec.

    Each kind of model is a subclass: NGram, CausalLM, MaskedLM, SpanLM and BiLM. `verbs` names the
    methods it has of `start_texts` (generate), `token_logprobs` (score), `fill` and `features`.
    """

    name: str
    header: Header
    codec: TextCodec

    verbs: ClassVar[frozenset[str]]
    predicts_line_ends: ClassVar[bool] = True  # the end of a line is scored as its last token
    predicts_all_tokens: ClassVar[bool] = True  # and not only those that were masked

    @property
    def arch(self) -> str:
        return self.header.arch

    def require(self, verb: str) -> None:
        """Raise DlkitError unless this kind of model has the verb."""
        if verb not in self.verbs:
            raise DlkitError(f"{self.name}: a model of --arch {self.arch} cannot {VERBS[verb]}")

    @property
    def device_name(self) -> str | None:
        """The device of torch that computes; None for a model without torch."""
        return None

    @property
    def context(self) -> int | None:
        """Tokens that the model sees at once; None: no limit."""
        return None

    @property
    def sliding_context(self) -> int | None:
        """Tokens of the windows that `evaluate --stride` moves over a text; None: no windows."""
        return None

    @cached_property
    def size(self) -> int:
        """Number of ids that the model knows."""
        return self.codec.size

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end a text; the end of a line is a part of it."""
        if named := self.header.settings.get("ends"):  # by the files of the model
            return frozenset(named)
        special = self.codec.tokenizer.special
        found = {special[name] for name in END if name in special}
        return frozenset(found - {self.codec.line_end})

    @cached_property
    def banned(self) -> set[int]:
        """Ids that are never generated: special and unknown tokens, and ids without a token."""
        tokenizer = self.codec.tokenizer
        special = set(tokenizer.special.values()) - {self.codec.line_end}
        nameless = set(range(self.size)) - tokenizer.names.keys()
        return (special | nameless) - self.ends

    def prompt_ids(self, prompt: str) -> list[int]:
        """Encode a text to continue, as one id or more."""
        codec = self.codec
        ids = codec.encode(prompt)
        separators = {codec.tokenizer.special.get(name) for name in SEPARATORS}
        if codec.begin is not None and (not ids or codec.begin not in separators):
            return [codec.begin, *ids]
        if not ids:
            ids = codec.encode("\n")
            if not ids or ids[0] == codec.tokenizer.unknown_id:
                raise DlkitError(f"the prompt is empty; give {self.name} a first character")
        return ids

    def unknown_pieces(self, text: str, ids: list[int]) -> list[str]:
        """The characters or words of a text, encoded as `ids`, that the vocabulary lacks."""
        tokenizer = self.codec.tokenizer
        if tokenizer.unknown_id is None or tokenizer.unknown_id not in ids:
            return []
        spans = tokenizer.encode_spans(text, self.codec.parse_special)
        return [text[start:end] for i, (start, end) in spans if i == tokenizer.unknown_id]

    def token(self, id: int, logprob: float) -> Token:
        name = self.codec.tokenizer.names.get(id, "")
        return Token(name, id, round(logprob, 6) if math.isfinite(logprob) else None)

    def score_tokens(self, texts: Sequence[list[int]]) -> Iterator[list[Token]]:
        """The predicted tokens of each text, with their log-probabilities."""
        line_end = self.codec.line_end
        if self.predicts_line_ends and line_end is not None:
            texts = [[*ids, line_end] for ids in texts]
        for ids, logprobs in zip(texts, self.token_logprobs(texts), strict=True):
            predicted = ids[len(ids) - len(logprobs) :]
            yield [self.token(*pair) for pair in zip(predicted, logprobs, strict=True)]

    @property
    def start_ids(self) -> list[int]:
        """The token that begins a text, if there is one."""
        return [] if self.codec.begin is None else [self.codec.begin]

    @abstractmethod
    def losses(self, ids: np.ndarray, stride: int | None) -> np.ndarray:
        """Losses in nats on the ids (N) of a text, for `evaluate`.

        There is one for each id but the first; kinds that predict masked tokens only have one for
        each group of windows. `stride` is for kinds with a `sliding_context`.
        """

    @abstractmethod
    def describe_losses(self, stride: int | None) -> str:
        """Describe in a phrase the context from which `losses` predicts each token."""

    def start_texts(self, prompts: Sequence[list[int]], max_tokens: int) -> TextBatch:
        """Return the texts of these prompts, to grow by at most `max_tokens` tokens."""
        raise NotImplementedError

    def token_logprobs(self, texts: Sequence[list[int]]) -> Iterable[list[float]]:
        """Log-probabilities of the last tokens of each text: all, or all but the first."""
        raise NotImplementedError

    def fill(self, text: str, count: int) -> FilledText:
        """The `count` most probable ways to fill each gap of a text."""
        raise NotImplementedError

    def features(self, ids: list[int], layer: int | None) -> list[list[float]]:
        """A vector of each id in its context: the output of a layer, by default the last."""
        raise NotImplementedError
