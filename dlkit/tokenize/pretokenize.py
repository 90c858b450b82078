"""Pre-tokenization: patterns that split text into pre-tokens ("pieces"), which no token crosses.

The patterns are those of the module `regex`; compiled_split.py implements seven of them again.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from dlkit.core.errors import DlkitError
from dlkit.tokenize import unicode_tables as tables

if TYPE_CHECKING:
    import regex

PATTERNS = {
    # The patterns of GPT-2, and of GPT-4 (from tiktoken 0.14).
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    # As tiktoken and Hugging Face write them, for the models of these names.
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "kimi": (
        r"\p{Han}+"
        r"|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*"
        r"(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+"
        r"(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "whitespace": r"\S+",
    "ascii-whitespace": r"[^\t\n\v\f\r ]+",
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

EMAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # an alternative of "words"
WEB = PATTERNS["words"].partition("|" + EMAIL)[0]  # and the one that is tried before it
# The patterns that leave nothing of a text out.
COVERING = ("gpt2", "gpt4", "o200k", "llama3", "qwen", "kimi", "characters", "none")
# Hugging Face's regular expressions (Oniguruma) interpret {1,3}+ and $ differently.
ONIGURUMA = {
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"
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


def splitter(split: str, gaps: bool = False) -> Callable[[str], list[str]]:
    """A function that splits a text into pre-tokens; with `gaps`, the text between them, too."""
    pattern = compile_pattern(split)
    # findall would return the groups
    find: Callable[[str], list[str]] | None = None if pattern.groups else pattern.findall
    if split == "words":
        find = find_words

    def cut(text: str) -> list[str]:
        if find is not None and (text.isascii() or as_classed(split, text) == text):
            pieces: list[str] = find(text)
            if not gaps or sum(map(len, pieces)) == len(text):
                return pieces
        return [text[start:end] for start, end in bounds(split, text, gaps)]

    return cut


def as_classed(split: str, text: str) -> str:
    """The text with other characters for those that Hugging Face's library classes otherwise."""
    if split == "bert":
        return tables.hide_new_punctuation(text)
    return tables.hide_new_characters(text)


def bounds(split: str, text: str, gaps: bool = False) -> list[tuple[int, int]]:
    """Start and end of each pre-token."""
    found: list[tuple[int, int]] = []
    last = 0
    for start, end in spans(split, as_classed(split, text)):
        if gaps and last < start:
            found.append((last, start))
        if start < end:
            found.append((start, end))
        last = end
    if gaps and last < len(text):
        found.append((last, len(text)))
    return found


def spans(split: str, text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each match of a pattern."""
    if split == "words":
        return word_spans(text)
    return (match.span() for match in compile_pattern(split).finditer(text))


# ---- words in linear time ------------------------------------------------------------------------


@cache
def word_patterns() -> "tuple[regex.Pattern[str], ...]":
    """The pattern `words` without e-mail addresses; web addresses; parts of e-mail addresses."""
    import regex

    others = PATTERNS["words"].replace("|" + EMAIL, "")
    name, _, domain = EMAIL.partition("@")
    return tuple(map(regex.compile, (others, WEB, name, f"@{domain}")))


def find_words(text: str) -> list[str]:
    """The matches of the pattern `words`."""
    if "@" not in text:
        words: list[str] = word_patterns()[0].findall(text)
        return words
    return [text[start:end] for start, end in word_spans(text)]


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """The matches of the pattern `words`, in time proportional to the text.

    The pattern itself reads a run such as `a.b.c.` to its end from each of its characters, in
    search of an @.
    """
    others, web, _, _ = word_patterns()
    at = 0
    for start, sign, end in emails(text) if "@" in text else ():
        while at < sign and (match := others.search(text, at)) and match.start() < sign:
            if match.start() >= start and not web.match(text, match.start()):
                yield match.start(), end
                at = end
                break
            yield match.span()
            at = match.end()
    for match in others.finditer(text, at):
        yield match.span()


def emails(text: str) -> Iterator[tuple[int, int, int]]:
    """The start, @ and end of each e-mail address; it may also begin later than at its start."""
    _, _, name, domain = word_patterns()
    for run in name.finditer(text):
        if match := domain.match(text, run.end()):
            yield run.start(), run.end(), match.end()
