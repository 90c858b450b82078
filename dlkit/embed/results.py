"""Results of queries. Loads no torch."""

from dataclasses import dataclass
from typing import Any

from dlkit.core.io.results import Result


@dataclass(frozen=True)
class Neighbor:
    """A word, with its cosine similarity to the query."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Similar(Result):
    """The words nearest to a query, best first."""

    query: str
    neighbors: list[Neighbor]

    @property
    def path(self) -> str:
        """The name of the query in notices."""
        return self.query

    def rows(self) -> list[dict[str, Any]]:
        return [{"query": self.query, "word": n.word, "cosine": n.cosine} for n in self.neighbors]


@dataclass(frozen=True)
class Answer:
    """An answer to an analogy, with its score."""

    word: str
    score: float


@dataclass(frozen=True)
class Analogy(Result):
    """`a` is to `b` as the answers are to `c`: the words nearest to a - b + c, best first."""

    a: str
    b: str
    c: str
    answers: list[Answer]

    @property
    def path(self) -> str:
        """The name of the query in notices."""
        return f"{self.a} - {self.b} + {self.c}"

    def rows(self) -> list[dict[str, Any]]:
        return [{"word": answer.word, "score": answer.score} for answer in self.answers]


@dataclass(frozen=True)
class TextVector:
    """The vector of a word or sentence."""

    text: str
    vector: list[float]

    def rows(self) -> list[dict[str, Any]]:
        numbers = {str(index): value for index, value in enumerate(self.vector)}
        return [{"text": self.text, **numbers}]


@dataclass(frozen=True)
class OddOneOut(Result):
    """The word least similar to the mean of all words, and each word's cosine with that mean."""

    word: str
    cosines: dict[str, float]

    def rows(self) -> list[dict[str, Any]]:
        return [{"word": self.word, "cosine": self.cosines[self.word]}]
