"""Results as Python shows and saves them: base classes without fields. Loads no torch."""

import html
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TextIO, TypeVar

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.io.writers import WRITERS, Format

R = TypeVar("R")
# The format of a file of results, by its suffix.
SAVED_FORMATS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".txt": "text"}


class Result:
    """A result, one of a dataclass, which a notebook shows as a table and `save` writes.

    `nothing` is the sentence about a result without rows on a terminal, if it is not the usual one;
    None: no sentence. It is not part of the record.
    """

    nothing: ClassVar[str | None] = ""

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the result's table."""
        return [asdict(self)]  # type: ignore[call-overload]

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write the result to a file .json, .jsonl, .csv or .txt, as the command's `-o` does.

        Returns the path. Raises DlkitError for another suffix.
        """
        return save_results([self], path)

    def _repr_html_(self) -> str:
        return html_table(self.rows())


class TextResult(Result):
    """A result that is a text, `str(result)`, of which a file .txt has a line."""

    def as_line(self) -> str:
        """The text as a line of a file that holds several."""
        return str(self)


def note_nothing(result: Any, sentence: str | None) -> None:
    """Give a result without rows the sentence that a terminal shows."""
    object.__setattr__(result, "nothing", sentence)


def nothing_above(
    threshold: float | None,
    place: str,
    best: tuple[str, float] | None = None,
    labels: Sequence[str] | None = None,
) -> str:
    """The sentence on an input without results: nothing above 0.30 in a.jpg; highest: cat 0.21.

    `best` is the best label with its score; `labels` are those to which results were restricted.
    `threshold` None: that of each label.
    """
    what = "nothing" if labels is None else f"no {' or '.join(labels)}"
    above = "its threshold" if threshold is None else two_digits(threshold)
    sentence = f"{what} above {above} in {place}"
    if best is None:
        return sentence
    label, score = best
    # A score that rounds up to the threshold has more digits.
    shown = f"{score:.2f}"
    if threshold is not None and score < threshold <= float(shown):
        shown = f"{score:.4f}"
    return f"{sentence}; highest: {label} {shown}"


def two_digits(value: float) -> str:
    """The value with two digits after the point, or more if it has more."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:g}"


class Results(list[R]):
    """The results of many inputs, in their order: a list that a notebook shows, too."""

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write all results to one file .json, .jsonl, .csv or .txt; return its path."""
        return save_results(self, path)

    def _repr_html_(self) -> str:
        return "".join(
            result._repr_html_() if isinstance(result, Result) else f"<p>{html.escape(str(result))}"
            for result in self
        )


def save_results(
    results: Sequence[Any], path: "str | os.PathLike[str]", others: Iterable[str] = ()
) -> Path:
    """Write results in the format of the suffix; an error also names the suffixes `others`."""
    target = Path(path)
    format = SAVED_FORMATS.get(target.suffix.lower())
    if format is None:
        raise unknown_suffix(target, [*SAVED_FORMATS, *others])
    with (
        whole_file(target) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        if format == Format.text and any(isinstance(result, TextResult) for result in results):
            write_texts(results, file)
        else:
            WRITERS[format](results, file)
    return target


def unknown_suffix(path: Path, suffixes: Iterable[str]) -> DlkitError:
    """The error for a file name whose suffix is none of these."""
    choices = ", ".join(suffixes)
    return DlkitError(f"no format has the suffix {path.suffix!r}; choose from {choices}", path)


def write_texts(results: Sequence[Any], file: TextIO) -> None:
    """Write a single text as it is, several as lines; the line of a Failure is empty."""
    for result in results:
        line = result.as_line() if isinstance(result, TextResult) else ""
        file.write((line if len(results) > 1 else str(result)) + "\n")


def html_table(rows: Sequence[dict[str, Any]]) -> str:
    """An HTML table with a header, numbers to the right; empty for no rows."""
    if not rows:
        return "<p>nothing found"
    header = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows[0])
    lines = ("".join(map(html_cell, row.values())) for row in rows)
    return f"<table><tr>{header}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def html_tokens(tokens: Iterable[tuple[str, str, str]]) -> str:
    """Tokens as colored spans: each a text, a title that the mouse shows, and a color of CSS."""
    spans = (
        f'<span style="background: {color}; color: black" title="{html.escape(title)}">'
        f"{html.escape(text)}</span>"
        for text, title, color in tokens
    )
    return f'<div style="font-family: monospace">{"<wbr>".join(spans)}</div>'


def html_cell(value: Any) -> str:
    """One cell of an HTML table."""
    text = html.escape("" if value is None else str(value))
    if isinstance(value, int | float):
        return f'<td style="text-align: right">{text}</td>'
    return f'<td style="text-align: left">{text}</td>'
