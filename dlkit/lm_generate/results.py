"""Records that the commands print. Loads no torch."""

import html
from dataclasses import dataclass
from typing import Any, ClassVar

from dlkit.core.io.results import Result, TextResult, html_tokens

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


def shade_token(token: Token) -> tuple[str, str, str]:
    """A token for `html_tokens`: white at probability 1, and the darker, the less probable."""
    if token.logprob is None:
        return one_line(token.token), "impossible", "hsl(10, 80%, 50%)"
    lightness = max(100 + 5 * token.logprob, 50)
    title = f"log-probability {token.logprob:.4g}"
    return one_line(token.token), title, f"hsl(30, 90%, {lightness:.0f}%)"


@dataclass(frozen=True)
class Continuation(TextResult):
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

    def __str__(self) -> str:
        return self.prompt + self.text

    def as_line(self) -> str:
        return one_line(str(self))

    def _repr_html_(self) -> str:
        """The prompt, and the text after it in bold."""
        prompt, text = html.escape(self.prompt), html.escape(self.text)
        return f'<pre style="white-space: pre-wrap">{prompt}<b>{text}</b></pre>'


@dataclass(frozen=True)
class TextScore(Result):
    """Log-probability (natural) and perplexity of a text."""

    noun: ClassVar = "text"
    units: ClassVar = {"logprob": "nats"}

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

    def _repr_html_(self) -> str:
        """The table, and the tokens, the darker, the less probable."""
        return super()._repr_html_() + html_tokens(map(shade_token, self.tokens))


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
class FilledText(Result):
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
class Features(Result):
    """A vector for each token of a text."""

    text: str
    tokens: list[str]
    vectors: list[list[float]]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"token": one_line(token), **{str(index): value for index, value in enumerate(vector)}}
            for token, vector in zip(self.tokens, self.vectors, strict=True)
        ]
