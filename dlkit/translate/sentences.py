"""Lines that are longer than a model reads: cut at sentence ends, and where there is none between
words.
"""

import re
from collections.abc import Callable
from itertools import pairwise

# Possessive, and from the first of several stops: else a line of nothing but stops takes for ever.
SENTENCE = re.compile(
    r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+\s++ | [。！？]++["'”’」』）]*+\s*+""", re.VERBOSE
)


def pieces(line: str, fits: Callable[[str], bool]) -> list[str]:
    """The line's parts, each of which fits, without white space around them.

    A line that fits is one part; of white space alone, none.
    """
    line = line.strip()
    if not line:
        return []
    if fits(line) or len(line) == 1:
        return [line]
    ends = [match.end() for match in SENTENCE.finditer(line)]
    ends = [end for end in ends if end < len(line) and not line[end].islower()]  # "e.g. this"
    starts = [0, *ends] if ends else halfway(line)
    return [
        part
        for start, end in pairwise([*starts, len(line)])
        for part in pieces(line[start:end], fits)
    ]


def halfway(text: str) -> list[int]:
    """Where two halves start: at the space nearest to the middle, or where there is none, there."""
    middle = len(text) // 2
    spaces = [place for place in (text.rfind(" ", 0, middle), text.find(" ", middle)) if place > 0]
    return [0, min(spaces, key=lambda place: abs(place - middle), default=middle)]
