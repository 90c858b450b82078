"""METEOR 1.5 (Denkowski and Lavie 2014) with exact and stem matches only.

Without lists of synonyms, paraphrases and function words it needs no data. The numbers equal those
of the authors' program with `-m "exact stem" -p "0.85 0.2 0.6 0.5"`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dlkit.caption.stemming import stem

Words = Sequence[str]

ALPHA, BETA, GAMMA = 0.85, 0.2, 0.6  # of METEOR 1.5 for English
STEM_WEIGHT = 0.6  # of a match of stems; an exact match has 1
BEAM = 40  # partial alignments that the search keeps


@dataclass(frozen=True)
class Statistics:
    """Counts that are summed over captions: matches, their weights, chunks, and lengths in words.

    A chunk is a run of matched words in the same order; a caption equal to its reference has none.
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
        """The harmonic mean of precision and recall, less a fragmentation penalty."""
        if not self.matches:
            return 0.0
        precision, recall = self.weight / self.caption, self.weight / self.reference
        mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
        return float((1 - GAMMA * (self.chunks / self.matches) ** BETA) * mean)


class PartialAlignment(NamedTuple):
    """An alignment of a caption's first words.

    Its order ranks it: by unmatched words, then chunks, then distance.
    """

    unmatched: int = 0
    chunks: int = 0
    distance: int = 0
    lost: float = 0.0  # weight that stem matches lack against exact ones
    used: int = 0  # bit mask of the matched words of the reference
    last: int = -2  # place in the reference of the last word's match


def meteor(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """The score of all captions together, each with its best reference."""
    total = Statistics(0, 0.0, 0, 0, 0)
    for caption, known in zip(captions, references, strict=True):
        total += max(
            (align_words(caption, reference) for reference in known), key=lambda s: s.score
        )
    return total.score


def align_words(caption: Words, reference: Words) -> Statistics:
    """The statistics of the best one-to-one alignment of a caption with a reference."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(reference):
        places.setdefault(stem(word), []).append(place)
    partial = [PartialAlignment()]
    for here, word in enumerate(caption):
        longer: dict[tuple[int, int], PartialAlignment] = {}
        for known in partial:
            for extended in extend(known, here, word, reference, places.get(stem(word), [])):
                key = extended.used, extended.last
                if key not in longer or extended < longer[key]:
                    longer[key] = extended
        partial = sorted(longer.values())[:BEAM]
    best = min(partial)
    matches = len(caption) - best.unmatched
    whole = best.chunks == 1 and matches == len(caption) == len(reference)
    chunks = 0 if whole else best.chunks
    return Statistics(matches, matches - best.lost, chunks, len(caption), len(reference))


def extend(
    known: PartialAlignment, here: int, word: str, reference: Words, places: Sequence[int]
) -> list[PartialAlignment]:
    """The alignment with one more word, unmatched or matched with each unused place."""
    found = [known._replace(unmatched=known.unmatched + 1, last=-2)]
    for place in places:
        if not known.used >> place & 1:
            found.append(
                PartialAlignment(
                    known.unmatched,
                    known.chunks + (place != known.last + 1),
                    known.distance + abs(place - here),
                    known.lost + (0.0 if reference[place] == word else 1 - STEM_WEIGHT),
                    known.used | 1 << place,
                    place,
                )
            )
    return found
