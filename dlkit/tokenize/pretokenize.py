"""How text is cut into pre-tokens, which no token crosses. Every way is a pattern.

The module `regex` gives the patterns their meaning; compiled_split.py repeats the first four.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from dlkit.core.errors import DlkitError

PATTERNS = {
    # The patterns of GPT-2, and of GPT-4 as tiktoken has it (0.14).
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "whitespace": r"\S+",
    # BERT's: between spaces, and every mark of punctuation by itself.
    "bert": r"[\p{P}$+<=>^`|~]|[^\s\p{P}$+<=>^`|~]+",
    # Rules of written English: addresses and numbers whole, contractions apart ("do n't" as in the
    # Penn Treebank), every other mark by itself.
    "words": (
        r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?')\]]"
        r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
        r"|[$€£]?\d+(?:[.,:/]\d+)*%?"
        r"|\w+?(?=[nN]['’][tT]\b)|[nN]['’][tT]\b"
        r"|['’](?:[sdmSDM]|ll|LL|ve|VE|re|RE)\b"
        r"|\w+(?:[-_]\w+)*"
        r"|\.\.\.|--|[^\w\s]"
    ),
    "characters": r"(?s:.)",
    "none": r"(?s:.+)",
}


def pattern_of(split: str) -> str:
    """The pattern of this name, or the pattern itself."""
    return PATTERNS.get(split, split)


@cache
def compiled(split: str) -> Any:
    import regex

    try:
        return regex.compile(pattern_of(split))
    except regex.error as error:
        names = ", ".join(PATTERNS)
        raise DlkitError(
            f"--split {split!r} is none of {names}, and no pattern ({error})"
        ) from error


def splitter(split: str) -> Callable[[str], list[str]]:
    """A function that cuts a text into pre-tokens."""
    finder = compiled(split)
    if finder.groups:  # findall would give the groups
        return lambda text: [match[0] for match in finder.finditer(text)]
    return finder.findall


def bounds(split: str, text: str) -> list[tuple[int, int]]:
    """Where the pre-tokens start and end."""
    return [match.span() for match in compiled(split).finditer(text)]
