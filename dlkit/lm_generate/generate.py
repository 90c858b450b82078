"""Generation token by token: sampling in batches, beam search, stop strings. Loads no torch.

The probabilities come from a `TextBatch`: neural_texts.py or ngram.py.
"""

import codecs
import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.lm_generate.text_codec import TextCodec

# Tokens of a prompt that are decoded together with the next ones, for the space between them: a
# character may be made of four byte tokens.
OVERLAP = 6
REPLACEMENT = "\ufffd"  # an incomplete character decodes to this


class TextBatch(Protocol):
    """Texts that grow together, and the probabilities of the next token of each."""

    @property
    def truncated(self) -> bool:
        """Whether the beginning of a text is outside of the model's context."""

    def choose(
        self, sampling: Sampling, uniforms: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """Sample the next token of each text; returns tokens and their log-probabilities."""

    def best(self, count: int) -> tuple[list[list[int]], list[list[float]]]:
        """The `count` most probable next tokens of each text, and their log-probabilities."""

    def append(self, tokens: Sequence[int]) -> None:
        """Append a token to each text."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these texts, which may repeat."""


@dataclass(frozen=True)
class Limits:
    """A text ends after `max_tokens` tokens or before one of the stop strings."""

    max_tokens: int
    stop: tuple[str, ...] = ()


class GrowingText:
    """One text as it grows: its tokens, its printable characters, and why it ended."""

    def __init__(
        self,
        codec: TextCodec,
        prompt: str,
        ids: Sequence[int],
        limits: Limits,
        ends: Collection[int],
    ) -> None:
        self.codec, self.limits, self.ends = codec, limits, ends
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.text = ""
        self.printed = 0  # characters of `text`
        self.finish: str | None = None
        self.decoder = Decoder(codec, prompt, ids)

    def add(self, token: int, logprob: float) -> str:
        """Append a token, and return the characters that can be printed now."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in self.ends:
            self.finish = "end"
        searched = len(self.text)
        done = self.finish is not None or len(self.ids) >= self.limits.max_tokens
        self.text += self.decoder.add([] if self.finish else [token], done)
        if self.cut_at_stop(searched):
            self.finish = "stop"
        elif done:
            self.finish = self.finish or "length"
        end = len(self.text) - (0 if self.finish else self.withheld())
        piece = self.text[self.printed : end]
        self.printed = max(end, self.printed)
        return piece

    def cut_at_stop(self, searched: int) -> bool:
        """Cut the text before its first stop string; returns whether it has one."""
        longest = max(map(len, self.limits.stop), default=0)
        begin = max(searched - longest + 1, 0)
        places = [place for s in self.limits.stop if (place := self.text.find(s, begin)) >= 0]
        if places:
            self.text = self.text[: min(places)]
        return bool(places)

    def withheld(self) -> int:
        """Number of characters at the end that may begin a stop string."""
        return max(
            (
                length
                for s in self.limits.stop
                for length in range(1, len(s))
                if self.text.endswith(s[:length])
            ),
            default=0,
        )

    def copy_with(self, token: int, logprob: float) -> "GrowingText":
        """Return a copy with one more token."""
        other = copy.copy(self)
        other.ids, other.logprobs = list(self.ids), list(self.logprobs)
        other.decoder = copy.copy(self.decoder)
        other.add(token, logprob)
        return other


class Decoder:
    """Incremental decoder: tokens to text, as soon as characters are complete."""

    def __init__(self, codec: TextCodec, prompt: str, ids: Sequence[int]) -> None:
        """`ids` are those of the prompt: the text after it may begin with a space."""
        self.codec = codec
        self.near = tuple(
            ids[-OVERLAP:]
        )  # the latest tokens; the text of the first `known` is printed
        self.known = len(self.near)
        self.bytes = b""  # an incomplete character
        # Where white space has no tokens, a trailing space of the prompt is the one between words.
        bare = prompt.rstrip()
        self.spaced = bare != prompt and codec.encode(bare) == codec.encode(prompt)

    def add(self, tokens: Sequence[int], last: bool) -> str:
        """Return the characters that these tokens complete; all of them if they are the `last`."""
        decode_bytes = getattr(self.codec.tokenizer, "decode_bytes", None)
        if decode_bytes is not None:
            data = self.bytes + decode_bytes(tokens)
            text, used = codecs.utf_8_decode(data, "replace", last)
            self.bytes = data[used:]
            return text
        self.near += tuple(tokens)
        now = self.codec.decode(self.near)
        if now.endswith(REPLACEMENT) and not last and len(self.near) - self.known < OVERLAP:
            return ""
        text = now[len(self.codec.decode(self.near[: self.known])) :]
        self.near = self.near[self.known :] or self.near
        self.known = len(self.near)
        if self.spaced and text:
            self.spaced = False
            text = text.removeprefix(" ")
        return text


def grow(
    texts: TextBatch,
    growing: Sequence[GrowingText],
    uniforms: Sequence[Uniforms],
    sampling: Sampling,
) -> Iterator[tuple[int, str]]:
    """Sample until every text has ended: yields (index of the text, new characters).

    Texts that ended leave the batch.
    """
    places = list(range(len(growing)))
    while places:
        drawn = [uniforms[place].next() for place in places]
        tokens, logprobs = texts.choose(sampling, drawn)
        rows = []
        for row, place in enumerate(places):
            yield place, growing[place].add(tokens[row], logprobs[row])
            if growing[place].finish is None:
                rows.append(row)
        places = [places[row] for row in rows]
        if places:
            texts.select(rows)
            texts.append([tokens[row] for row in rows])


def beam_search(texts: TextBatch, start: GrowingText, beam: int) -> list[GrowingText]:
    """Search for the `beam` most probable continuations by mean log-probability of a token.

    `texts` holds the prompt alone. The search ends when `beam` texts have ended and no open text
    has a better mean.
    """
    open_texts, sums = [start], [0.0]
    ended: list[tuple[float, GrowingText]] = []
    while open_texts:
        # Each text may end in one token and one of its ends may be kept, so twice as many suffice.
        tokens, logprobs = texts.best(2 * beam)
        candidates = sorted(
            (
                (total + logprob, row, token, logprob)
                for row, total in enumerate(sums)
                for token, logprob in zip(tokens[row], logprobs[row], strict=True)
                if np.isfinite(logprob)
            ),
            key=lambda candidate: -candidate[0],
        )
        grown: list[GrowingText] = []
        sums, rows = [], []
        for rank, (total, row, token, logprob) in enumerate(candidates):
            text = open_texts[row].copy_with(token, logprob)
            if text.finish is None:
                grown.append(text)
                sums.append(total)
                rows.append(row)
            elif rank < beam or text.finish == "length":
                ended.append((total / len(text.ids), text))
            if len(grown) == beam or (text.finish == "length" and rank + 1 >= beam):
                break
        ended = sorted(ended, key=lambda pair: -pair[0])[:beam]
        open_texts = grown
        if not grown or (len(ended) == beam and ended[-1][0] >= sums[0] / len(grown[0].ids)):
            break
        texts.select(rows)
        texts.append([text.ids[-1] for text in grown])
    return [text for _, text in ended]
