"""fastText's lines of labeled texts, `__label__NAME the text`: read for training, and written.

Loads no torch.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.csv_files import Skip
from dlkit.core.io.rows import Row
from dlkit.core.io.writers import WRITERS, Writer

if TYPE_CHECKING:
    from dlkit.classify.infer import TextClassification

FASTTEXT_LABEL = "__label__"
SPACE = r" \t\v\f\r\n\0"  # characters that end a word in fastText; no others do
LABEL_WORD = re.compile(rf"(?:^|(?<=[{SPACE}])){FASTTEXT_LABEL}([^{SPACE}]*)")


def read_fasttext(lines: Iterable[str], file: Path, skip: Skip) -> Iterator[Row]:
    """The lines of a file of fastText's supervised training: `__label__NAME the text`.

    As there, any word with that prefix is a label. A text has one: lines with several are skipped.
    """
    for number, line in enumerate(lines, start=1):
        where = f"{file}:{number}"
        labels = list(LABEL_WORD.finditer(line))
        if len(labels) > 1:
            skip("line with several labels", where)
        elif labels:
            before, after = line[: labels[0].start()].strip(), line[labels[0].end() :].strip()
            yield where, {"text": f"{before} {after}".strip(), "label": labels[0][1]}
        elif line.strip():
            skip("line without a label", where)


@dataclass(frozen=True)
class FastTextLine:
    """A text with its labels, as a line."""

    line: str


def fasttext_lines(
    results: "Iterable[TextClassification | Failure]",
) -> Iterator[FastTextLine | Failure]:
    """The lines of texts; a Failure for a text that would be read as another one.

    Raises DlkitError for a label with white space.
    """
    for result in results:
        if isinstance(result, Failure):
            yield result
        elif "\n" in result.text:
            yield Failure(repr(result.text), "a line break, which fastText's lines cannot hold")
        elif LABEL_WORD.search(result.text):
            yield Failure(
                result.text, f"a word begins with {FASTTEXT_LABEL}, and would be read as a label"
            )
        else:
            names = [prediction.label for prediction in result.labels]
            if wrong := next((name for name in names if re.search(f"[{SPACE}]", name)), None):
                raise DlkitError(
                    f"-f fasttext: the label {wrong!r} has white space, which fastText's labels"
                    " cannot hold; choose another format"
                )
            labels = " ".join(f"{FASTTEXT_LABEL}{name}" for name in names)
            yield FastTextLine(f"{labels} {result.text}".lstrip())


def write_fasttext(results: "Iterable[FastTextLine | Failure]", file: TextIO) -> None:
    """Write a line for each text that has one."""
    for result in results:
        if isinstance(result, FastTextLine):
            print(result.line, file=file, flush=True)


FORMATS: dict[str, Writer] = {**WRITERS, "fasttext": write_fasttext}
