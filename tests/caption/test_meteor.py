"""METEOR, against its authors' program and an exhaustive search."""

import random

import pytest

from dlkit.caption.meteor import Statistics, align_words, meteor
from dlkit.caption.stemming import stem

# By meteor-1.5.jar -l en -m "exact stem" -w "1.0 0.6" -p "0.85 0.2 0.6 0.5".
METEOR = [
    ("a dog runs on the beach", ["a dog runs on the beach"], 1.0),
    (
        "a dog is running on the beach",
        ["a dog runs along the beach", "the brown dog plays in the water"],
        0.3427723502447287,
    ),
    (
        "two men in red shirts play soccer",
        ["two men are playing soccer in red shirts", "soccer players run"],
        0.4149402950085763,
    ),
    (
        "a man and a woman and a child",
        ["a child and a man", "a woman and a man and a child walk"],
        0.4581915942552156,
    ),
    ("people", ["a crowd of people"], 0.11267605633802819),
    ("a cat", ["two dogs play"], 0.0),
]


def test_meteor_is_that_of_its_own_program() -> None:
    captions = [caption.split() for caption, _, _ in METEOR]
    known = [[reference.split() for reference in references] for _, references, _ in METEOR]
    for caption, references, (_, _, expected) in zip(captions, known, METEOR, strict=True):
        assert meteor([caption], [references]) == pytest.approx(expected, abs=1e-9)
    assert meteor(captions, known) == pytest.approx(0.37765022111061947, abs=1e-9)


def every_alignment(caption: list[str], reference: list[str]) -> list[tuple[int, int, int]]:
    """Unmatched words, chunks and distance of all ways to pair words of one stem."""
    found: list[tuple[int, int, int]] = []

    def pair(here: int, pairs: list[tuple[int, int]]) -> None:
        if here == len(caption):
            chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
            distance = sum(abs(i - j) for i, j in pairs)
            found.append((len(caption) - len(pairs), chunks, distance))
            return
        pair(here + 1, pairs)
        for there, word in enumerate(reference):
            if stem(word) == stem(caption[here]) and there not in {j for _, j in pairs}:
                pair(here + 1, [*pairs, (here, there)])

    pair(0, [])
    return found


def test_meteors_alignment_is_that_of_an_exhaustive_search() -> None:
    chosen = random.Random(5)
    few = ["a", "the", "dog", "dogs", "runs", "run", "red"]
    for _ in range(60):
        caption, reference = (chosen.choices(few, k=chosen.randint(1, 6)) for _ in range(2))
        unmatched, chunks, _ = min(every_alignment(caption, reference))
        found = align_words(caption, reference)
        assert found.matches == len(caption) - unmatched
        whole = chunks == 1 and len(caption) == len(reference) == found.matches
        assert found.chunks == (0 if whole else chunks)


def test_nothing_in_common_has_no_meteor() -> None:
    assert Statistics(0, 0.0, 0, 3, 4).score == 0
    assert meteor([[]], [[["a"]]]) == 0
