"""A text that is changed step by step, with the characters of the source that each part is from."""

from collections.abc import Iterable
from dataclasses import dataclass

from dlkit.core.errors import DlkitError

Span = tuple[int, int]
Spans = list[Span] | None  # one for each character; None where nobody asks for offsets
Changes = Iterable[tuple[str, int]]


@dataclass(slots=True)
class Part:
    """A part of the text; `token` is the id of an added token, which is not cut any more."""

    text: str
    spans: Spans
    token: int | None = None

    def cut(self, start: int, end: int) -> "Part":
        return Part(self.text[start:end], self.spans[start:end] if self.spans else self.spans)


def change(text: str, spans: Spans, changes: Changes, start: int = 0) -> tuple[str, Spans]:
    """The new characters, each with a number: 0 replaces a character, 1 adds one (with the span of
    the character before it), and -n replaces one and removes the n after it.
    """
    if spans is None:
        return "".join(char for char, _ in changes), None
    chars, new, at = [], [], start
    for char, number in changes:
        chars.append(char)
        if number > 0:
            new.append(spans[at - 1] if at else (0, 0))
        else:
            new.append(spans[at])
            at += 1 - number
    return "".join(chars), new


def keep(text: str, spans: Spans, kept: Iterable[bool]) -> tuple[str, Spans]:
    """The characters that are kept."""
    flags = list(kept)
    new = None if spans is None else [s for s, flag in zip(spans, flags, strict=True) if flag]
    return "".join(c for c, flag in zip(text, flags, strict=True) if flag), new


def prepend(text: str, spans: Spans, before: str) -> tuple[str, Spans]:
    """The text with `before` in front, unless it is empty."""
    if not text:
        return text, spans
    return before + text, spans and [spans[0]] * len(before) + spans


def replace(text: str, spans: Spans, matches: Iterable[Span], by: str) -> tuple[str, Spans]:
    """Replace each match; the new characters have the span of the last one replaced.

    Raises DlkitError for a match of no characters, for which the library's offsets are not known.
    """
    chars: list[str] = []
    new: list[Span] = []
    last = 0
    for start, end in matches:
        if start == end:
            raise DlkitError(
                f"a pattern to replace matches no characters before {text[end:][:20]!r}"
            )
        chars += (text[last:start], by)
        if spans is not None:
            new += spans[last:start]
            new += [spans[end - 1]] * len(by)
        last = end
    if not chars:
        return text, spans
    chars.append(text[last:])
    return "".join(chars), None if spans is None else new + spans[last:]
