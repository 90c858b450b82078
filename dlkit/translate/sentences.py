"""Splitting of lines that are too long for a model: at sentence ends, else between words."""

import re
from collections.abc import Callable
from itertools import pairwise

# Possessive, and from the first of several stops; else a line of stops takes quadratic time.
SENTENCE_END = re.compile(
    r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+\s++ | [。！？]++["'”’」』）]*+\s*+""", re.VERBOSE
)


def split_line(line: str, fits: Callable[[str], bool]) -> list[str]:
    """The line's pieces, each of which fits, without white space around them.

    A line that fits is one piece; a line of white space has none.
    """
    line = line.strip()
    if not line:
        return []
    if fits(line) or len(line) == 1:
        return [line]
    ends = [match.end() for match in SENTENCE_END.finditer(line)]
    ends = [end for end in ends if end < len(line) and not line[end].islower()]  # "e.g. this"
    starts = [0, *ends] if ends else halve(line)
    return [
        piece
        for start, end in pairwise([*starts, len(line)])
        for piece in split_line(line[start:end], fits)
    ]


def halve(text: str) -> list[int]:
    """The starts of two halves, cut at the space nearest to the middle, or in the middle."""
    middle = len(text) // 2
    spaces = [place for place in (text.rfind(" ", 0, middle), text.find(" ", middle)) if place > 0]
    return [0, min(spaces, key=lambda place: abs(place - middle), default=middle)]
