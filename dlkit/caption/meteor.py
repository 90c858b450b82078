"""METEOR 1.5 (Denkowski and Lavie 2014) with its exact and stem matches alone.

Without its lists of synonyms, paraphrases and function words it needs no data. The numbers equal
those of its own program with `-m "exact stem" -p "0.85 0.2 0.6 0.5"`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dlkit.caption.stemming import stem

Words = Sequence[str]

ALPHA, BETA, GAMMA = 0.85, 0.2, 0.6  # those of METEOR 1.5 for English
STEM_WEIGHT = 0.6  # what a match of stems counts, against 1 for the same word
BEAM = 40  # partial alignments that are followed


@dataclass(frozen=True)
class Statistics:
    """What is summed over captions: matched words and their weights, chunks, and lengths.

    A chunk is a run of matched words in the same order; a caption that is its reference has none.
    """

    matches: int
    weight: float
    chunks: int
    caption: int
    reference: int

    def __add__(self, other: "Statistics") -> "Statistics":
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return Statistics(*(a + b for a, b in both))

    @property
    def score(self) -> float:
        """The harmonic mean of precision and recall, less a penalty for being in pieces."""
        if not self.matches:
            return 0.0
        precision, recall = self.weight / self.caption, self.weight / self.reference
        mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
        return (1 - GAMMA * (self.chunks / self.matches) ** BETA) * mean


class Alignment(NamedTuple):
    """Part of an alignment; the smaller, the better: fewest unmatched words, chunks, distances."""

    unmatched: int = 0
    chunks: int = 0
    distance: int = 0
    lost: float = 0.0  # by matches of stems, against those of words
    used: int = 0  # a bit for each word of the reference
    last: int = -2  # where the word before was matched


def meteor(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """The score of all captions together, each with the reference that suits it best."""
    total = Statistics(0, 0.0, 0, 0, 0)
    for caption, known in zip(captions, references, strict=True):
        total += max((matched(caption, reference) for reference in known), key=lambda s: s.score)
    return total.score


def matched(caption: Words, reference: Words) -> Statistics:
    """The best alignment of a caption with a reference, in which each word has one partner."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(reference):
        places.setdefault(stem(word), []).append(place)
    partial = [Alignment()]
    for here, word in enumerate(caption):
        longer: dict[tuple[int, int], Alignment] = {}
        for known in partial:
            for follower in followers(known, here, word, reference, places.get(stem(word), [])):
                key = follower.used, follower.last
                if key not in longer or follower < longer[key]:
                    longer[key] = follower
        partial = sorted(longer.values())[:BEAM]
    best = min(partial)
    matches = len(caption) - best.unmatched
    whole = best.chunks == 1 and matches == len(caption) == len(reference)
    chunks = 0 if whole else best.chunks
    return Statistics(matches, matches - best.lost, chunks, len(caption), len(reference))


def followers(
    known: Alignment, here: int, word: str, reference: Words, places: Sequence[int]
) -> list[Alignment]:
    """The alignment with one more word, matched wherever it can be, or not at all."""
    found = [Alignment(known.unmatched + 1, known.chunks, known.distance, known.lost, known.used)]
    for place in places:
        if not known.used >> place & 1:
            found.append(
                Alignment(
                    known.unmatched,
                    known.chunks + (place != known.last + 1),
                    known.distance + abs(place - here),
                    known.lost + (0.0 if reference[place] == word else 1 - STEM_WEIGHT),
                    known.used | 1 << place,
                    place,
                )
            )
    return found
