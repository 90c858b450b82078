"""Tables of text with a header, separated by commas, semicolons or tabs, read strictly."""

import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.io.text import LONGEST_LINE, blocks
from dlkit.core.progress import log

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
LONGEST_FIELD = 1 << 24  # bytes; Python's own limit is 131072
MANY_LINES = 100  # in one field, after which a quote is taken to be open
OPEN = 'is a quote (") open? Double it inside a quoted field'


Cells = list[str]
Skip = Callable[[str, str], None]  # called with a reason and a place


def open_csv(
    lines: Iterable[str], file: Path, skip: Skip, free_text: Collection[str] = ()
) -> tuple[Cells, Iterator[tuple[int, Cells]]]:
    """The names of the columns in lower case, and the line number and cells of each row.

    `lines` have their ends. The separator is that of the header, or of a line `sep=;` before it; a
    line on stderr names one that is no comma. `skip` is called for a row with more or fewer fields
    than the header; but if the last column is one of `free_text`, it takes the rest of the row.
    Raises DlkitError for a quote that stays open or is followed by text, and a header with a name
    twice or none.
    """
    lines = iter(lines)
    first = next(lines, "")
    number = 1
    if first.lower().startswith("sep=") and len(first.strip()) == 5:
        separator, first, number = first[4], next(lines, ""), 2
    else:
        separator = find_separator(first, file)
    if not first.strip():
        raise DlkitError("no header; the first line must have the names of the columns", file)
    try:
        (cells,) = csv.reader([first], delimiter=separator, strict=True)
    except csv.Error as error:
        raise DlkitError(f"line {number}: {explain(error)}", file) from error
    header = [name.strip().lower() for name in cells]
    check_header(header, file)
    if separator != "," and len(header) > 1:
        log(f"{file.name}: {SEPARATORS.get(separator, repr(separator))} separate its columns")
    return header, csv_rows(lines, number, separator, header, file, skip, free_text)


def csv_rows(
    lines: Iterator[str],
    before: int,
    separator: str,
    header: Cells,
    file: Path,
    skip: Skip,
    free_text: Collection[str],
) -> Iterator[tuple[int, Cells]]:
    """The rows of `open_csv`; `before` lines came before them."""
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    reason = f"row with another number of fields than the header ({len(header)})"
    while True:
        start = reader.line_num + before + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DlkitError(f"line {start}: {explain(error)}", file) from error
        if row is None:
            return
        if reader.line_num + before + 1 - start > MANY_LINES:
            raise DlkitError(f"line {start}: a field of more than {MANY_LINES} lines; {OPEN}", file)
        if not row:
            continue
        if len(row) > len(header) and header[-1] in free_text:
            last = len(header) - 1
            row = [*row[:last], separator.join(row[last:])]
        if len(row) != len(header):
            skip(reason, f"{file}:{start}")
            continue
        yield start, row


def explain(error: csv.Error) -> str:
    """The reason of a csv.Error in other words."""
    text = str(error)
    if "expected after" in text:
        return f"text or blanks after a closing quote; {OPEN}"
    if "unexpected end of data" in text:
        return f"the file ends within a quoted field; {OPEN}"
    if "field larger than" in text:
        return f"a field of more than {LONGEST_FIELD >> 20} MiB; {OPEN}"
    if "new-line character" in text:
        return "a line break without a line feed; convert the file with dos2unix or mac2unix"
    return text


def file_lines(file: Path, errors: str = "strict") -> Iterator[str]:
    """The lines of a file with their ends, which may be inside of a quoted field.

    `errors` as in `blocks`; where bytes are replaced, a line on stderr names the first.
    """
    reported: list[str] = []

    def report(wrong: str) -> None:
        if not reported:
            log(f"dlkit: {wrong}: such bytes are replaced")
        reported.append(wrong)

    for block in blocks(str(file), errors, on_replaced=report, longest=LONGEST_LINE):
        yield from keep_ends(block.decode())


def keep_ends(text: str) -> Iterator[str]:
    """The lines of a text with their ends; only \\n ends a line."""
    start = 0
    while (end := text.find("\n", start) + 1) > 0:
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def find_separator(header: str, file: Path) -> str:
    """The separator of a header: the only one in it, by default a comma.

    Raises DlkitError for a header with several.
    """
    found = [
        separator
        for separator in SEPARATORS
        if len(next(csv.reader([header], delimiter=separator), [])) > 1
    ]
    if len(found) > 1:
        names = " and ".join(SEPARATORS[separator] for separator in found)
        raise DlkitError(
            f"line 1: {names} in the header; add a line before it: sep=; (or the right one)", file
        )
    return found[0] if found else ","


def check_header(header: Sequence[str], file: Path) -> None:
    """Raise DlkitError for a name that two columns have."""
    doubled = [name for name, count in Counter(header).items() if count > 1]
    if doubled:
        raise DlkitError(f"line 1: two columns are named {doubled[0]!r}; rename one", file)
