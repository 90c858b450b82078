"""Records that the commands print. Loads no torch."""

from dataclasses import dataclass
from typing import Any

ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def one_line(text: str) -> str:
    r"""Escape the line breaks of a text as \n."""
    return text.translate(ESCAPES)


@dataclass(frozen=True)
class Token:
    """A token and its natural log-probability, given the text before it.

    The log-probability of an impossible token, by an n-gram model without smoothing, is None.
    """

    token: str
    id: int
    logprob: float | None


@dataclass(frozen=True)
class Continuation:
    """A text that a model generated after a prompt.

    `finish` is why it ended: length (--max-tokens), stop (before a stop string) or end (the model's
    own end-of-text token).
    """

    prompt: str
    sample: int
    text: str
    finish: str
    logprob: float | None
    tokens: list[Token]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "tokens"}
        ]


@dataclass(frozen=True)
class TextScore:
    """Log-probability (natural) and perplexity of a text."""

    text: str
    logprob: float | None
    perplexity: float | None  # per token; None for a text without tokens
    tokens: list[Token]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "logprob": self.logprob,
                "perplexity": self.perplexity,
                "tokens": len(self.tokens),
                "text": self.text,
            }
        ]


@dataclass(frozen=True)
class Candidate:
    """A way to fill a gap."""

    token: str
    probability: float
    text: str  # the whole text with the token in this gap


@dataclass(frozen=True)
class Gap:
    """The candidates for a gap, best first."""

    candidates: list[Candidate]


@dataclass(frozen=True)
class FilledText:
    """A text, and the candidates for its gaps from left to right."""

    text: str
    gaps: list[Gap]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "gap": number + 1,
                "token": one_line(candidate.token),
                "probability": candidate.probability,
                "text": one_line(candidate.text),
            }
            for number, gap in enumerate(self.gaps)
            for candidate in gap.candidates
        ]


@dataclass(frozen=True)
class Features:
    """A vector for each token of a text."""

    text: str
    tokens: list[str]
    vectors: list[list[float]]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"token": one_line(token), **{str(index): value for index, value in enumerate(vector)}}
            for token, vector in zip(self.tokens, self.vectors, strict=True)
        ]
