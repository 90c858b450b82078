"""Patterns of pre-tokens: the one for words is searched in linear time."""

import random
import time

import pytest
import regex

from dlkit.tokenize import pretokenize

ATOMS = [
    *("a", "b.", "@", ".", "..", "...", "+", "-", "_", "www.", "http://", "https://x", "'s"),
    *("n't", "don't", " ", "\n", "5", "1.5", "$", "€3", "%", "é", "\u0301", "中", "@x.com", "me@x"),
    *(
        "a.b@c.d",
        ".com",
        "(",
        ")",
        "<",
        '"',
        "’t",
        "N’T",
        "ſ",
        ":",
        "/",
        "\U0001f600",
        "\u200d",
        ",",
    ),
]


def test_words_are_the_matches_of_their_pattern() -> None:
    pattern = regex.compile(pretokenize.PATTERNS["words"])
    rng = random.Random(1)
    for _ in range(4000):
        text = "".join(rng.choices(ATOMS, k=rng.randint(1, 14)))
        expected = [match.span() for match in pattern.finditer(text)]
        assert pretokenize.bounds("words", text) == expected, text
        assert pretokenize.splitter("words")(text) == [text[start:end] for start, end in expected]


@pytest.mark.parametrize("unit", [".", "A.B.C.", "+", "a@", "a@b.", "a.b@c "])
def test_words_take_time_in_proportion_to_the_text(unit: str) -> None:
    """The pattern itself took minutes for 100 KB of dots."""
    text = unit * ((1 << 17) // len(unit))
    split = pretokenize.splitter("words")
    began = time.process_time()
    pieces = split(text)
    assert time.process_time() - began < 2
    assert sum(map(len, pieces)) == len(text.replace(" ", ""))


@pytest.mark.slow
def test_a_megabyte_of_initials_takes_no_more_than_its_length_asks() -> None:
    split = pretokenize.splitter("words")
    for unit in (".", "A.B.C."):
        seconds = []
        for size in (1 << 18, 1 << 20):
            text = (unit * size)[:size]
            began = time.process_time()
            split(text)
            seconds.append(time.process_time() - began)
        assert seconds[1] < 8 * seconds[0] + 0.5
