"""Pre-tokenization: patterns that split text into pre-tokens ("pieces"), which no token crosses.

The patterns are those of the module `regex`; compiled_split.py implements six of them again.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from dlkit.core.errors import DlkitError

if TYPE_CHECKING:
    import regex

PATTERNS = {
    # The patterns of GPT-2, and of GPT-4 (from tiktoken 0.14).
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "whitespace": r"\S+",
    # BERT: words between spaces, and each punctuation mark by itself.
    "bert": r"[\p{P}$+<=>^`|~]|[^\s\p{P}$+<=>^`|~]+",
    # Rules of written English: addresses and numbers whole, contractions split ("do n't" as in the
    # Penn Treebank), each other mark by itself.
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


def find_pattern(split: str) -> str:
    """The pattern of this name, or the pattern itself."""
    return PATTERNS.get(split, split)


@cache
def compile_pattern(split: str) -> "regex.Pattern[str]":
    """Compile the pattern of this name, or the pattern itself."""
    import regex

    try:
        return regex.compile(find_pattern(split))
    except regex.error as error:
        names = ", ".join(PATTERNS)
        raise DlkitError(
            f"--split {split!r}: no pattern ({error}); give one, or choose from {names}"
        ) from error


def splitter(split: str) -> Callable[[str], list[str]]:
    """A function that splits a text into pre-tokens."""
    pattern = compile_pattern(split)
    if pattern.groups:  # findall would return the groups
        return lambda text: [match[0] for match in pattern.finditer(text)]
    return pattern.findall


def bounds(split: str, text: str) -> list[tuple[int, int]]:
    """Start and end of each pre-token."""
    return [match.span() for match in compile_pattern(split).finditer(text)]
