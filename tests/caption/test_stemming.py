"""Stems, against Snowball's vocabulary."""

import pytest

from dlkit.caption.stemming import stem


# From the vocabulary that Snowball publishes with its English stemmer.
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("running", "run"), ("jumped", "jump"), ("ponies", "poni"), ("skies", "sky"),
        ("dying", "die"), ("hoping", "hope"), ("hopping", "hop"), ("happily", "happili"),
        ("relational", "relat"), ("conditional", "condit"), ("rocky", "rocki"), ("cries", "cri"),
        ("ties", "tie"), ("gas", "gas"), ("gaps", "gap"), ("inning", "inning"), ("dyed", "dy"),
        ("agreed", "agre"), ("succeeding", "succeed"), ("generously", "generous"), ("by", "by"),
        ("vietnamization", "vietnam"), ("controlling", "control"), ("playing", "play"),
        ("yellow", "yellow"), ("dog's", "dog"), ("communities", "communiti"),
    ],
)  # fmt: skip
def test_stems_are_those_of_snowball(word: str, expected: str) -> None:
    assert stem(word) == expected
