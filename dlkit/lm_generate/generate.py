"""Texts that grow token by token: sampling in batches, beam search, stop strings. Loads no torch.

What computes the probabilities is a `Texts`: neural_texts.py or ngram_texts.py.
"""

import codecs
import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.lm_generate.text_codec import TextCodec

# Tokens of a prompt that are decoded with what follows, for the space between: a character may be
# made of four byte tokens.
OVERLAP = 6
REPLACEMENT = "\ufffd"  # what an unfinished character decodes to


class Texts(Protocol):
    """Texts of a batch, which grow together, and the probabilities of what may follow each."""

    @property
    def slid(self) -> bool:
        """Whether the beginning of a text went out of the model's view."""

    def choose(
        self, sampling: Sampling, uniforms: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """The next token of each text, and its log-probability by the model."""

    def best(self, count: int) -> tuple[list[list[int]], list[list[float]]]:
        """The `count` most probable next tokens of each text, and their log-probabilities."""

    def append(self, tokens: Sequence[int]) -> None:
        """Each text grows by a token."""

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these texts, which may repeat."""


@dataclass(frozen=True)
class Limits:
    """Where a text ends: after so many tokens, or before one of the stop strings."""

    max_tokens: int
    stop: tuple[str, ...] = ()


class Text:
    """One text as it grows: its tokens, what of it can be printed, and why it ended."""

    def __init__(
        self,
        units: TextCodec,
        prompt: str,
        ids: Sequence[int],
        limits: Limits,
        ends: Collection[int],
    ) -> None:
        self.units, self.limits, self.ends = units, limits, ends
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.text = ""
        self.printed = 0  # characters of `text`
        self.finish: str | None = None
        self.decoder = Decoder(units, prompt, ids)

    def add(self, token: int, logprob: float) -> str:
        """Grow by a token; returns the characters that can be printed now."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in self.ends:
            self.finish = "end"
        searched = len(self.text)
        done = self.finish is not None or len(self.ids) >= self.limits.max_tokens
        self.text += self.decoder.add([] if self.finish else [token], done)
        if self.stopped(searched):
            self.finish = "stop"
        elif done:
            self.finish = self.finish or "length"
        end = len(self.text) - (0 if self.finish else self.withheld())
        piece = self.text[self.printed : end]
        self.printed = max(end, self.printed)
        return piece

    def stopped(self, searched: int) -> bool:
        """Whether a stop string is there; the text then ends before it."""
        longest = max(map(len, self.limits.stop), default=0)
        begin = max(searched - longest + 1, 0)
        places = [place for s in self.limits.stop if (place := self.text.find(s, begin)) >= 0]
        if places:
            self.text = self.text[: min(places)]
        return bool(places)

    def withheld(self) -> int:
        """The characters at the end that may be the beginning of a stop string."""
        return max(
            (
                length
                for s in self.limits.stop
                for length in range(1, len(s))
                if self.text.endswith(s[:length])
            ),
            default=0,
        )

    def grown(self, token: int, logprob: float) -> "Text":
        """A copy that grew by a token."""
        other = copy.copy(self)
        other.ids, other.logprobs = list(self.ids), list(self.logprobs)
        other.decoder = copy.copy(self.decoder)
        other.add(token, logprob)
        return other


class Decoder:
    """Tokens to text one by one, as characters get whole."""

    def __init__(self, units: TextCodec, prompt: str, ids: Sequence[int]) -> None:
        """`ids` are those of the prompt: what follows it may begin with a space."""
        self.units = units
        self.near = tuple(ids[-OVERLAP:])  # the latest tokens; what `known` of them say is known
        self.known = len(self.near)
        self.bytes = b""  # the beginning of a character
        # Where white space has no tokens, a space that ends the prompt is the one between words.
        bare = prompt.rstrip()
        self.spaced = bare != prompt and units.encode(bare) == units.encode(prompt)

    def add(self, tokens: Sequence[int], last: bool) -> str:
        """The characters that these tokens complete; of the `last` ones, all there are."""
        decode_bytes = getattr(self.units.tokenizer, "decode_bytes", None)
        if decode_bytes is not None:
            data = self.bytes + decode_bytes(tokens)
            text, used = codecs.utf_8_decode(data, "replace", last)
            self.bytes = data[used:]
            return text
        self.near += tuple(tokens)
        now = self.units.decode(self.near)
        if now.endswith(REPLACEMENT) and not last and len(self.near) - self.known < OVERLAP:
            return ""
        text = now[len(self.units.decode(self.near[: self.known])) :]
        self.near = self.near[self.known :] or self.near
        self.known = len(self.near)
        if self.spaced and text:
            self.spaced = False
            text = text.removeprefix(" ")
        return text


def grow(
    texts: Texts, growing: Sequence[Text], uniforms: Sequence[Uniforms], sampling: Sampling
) -> Iterator[tuple[int, str]]:
    """Sample until every text has ended: (its place, new characters) as they come.

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


def beam_search(texts: Texts, start: Text, beam: int) -> list[Text]:
    """The `beam` most probable continuations that were found, by mean log-probability of a token.

    `texts` holds the prompt alone. It ends when `beam` texts have ended and none that still grows
    has a better mean.
    """
    open_texts, sums = [start], [0.0]
    ended: list[tuple[float, Text]] = []
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
        grown: list[Text] = []
        sums, rows = [], []
        for rank, (total, row, token, logprob) in enumerate(candidates):
            text = open_texts[row].grown(token, logprob)
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
