"""One reader of the rows of CSV files (`,` `;` tab) and JSON lines, recognized by their content.

A reader names the columns that it needs; rows that do not have them are skipped by their line,
counted in a `Ledger`, and refused by `finish_rows` where they are many.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.io.csv_files import Skip, file_lines, open_csv
from dlkit.core.io.json_lines import Unusable, json_objects
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log

ROWS = "rows"  # the kind of thing that the ledger of a file counts


@dataclass(frozen=True)
class Column:
    """A column that a reader needs, under the first of its names that a file has, in any case.

    As the last column of a CSV one of `free_text` takes the rest of a row, with its separators. The
    fields of JSON are strings, or numbers where `number`, or lists of them that are joined by
    `joined_by`.
    """

    names: tuple[str, ...]
    optional: bool = False
    free_text: bool = False
    number: bool = False
    joined_by: str = ""

    def __str__(self) -> str:
        return " or ".join(self.names)


Columns = Mapping[str, Column]
Row = tuple[str, dict[str, str]]  # its place (FILE:LINE), and the cells of the columns it has


def first_line(file: Path, errors: str = "strict") -> tuple[str, Iterator[str]]:
    """The first line with text of a file, and all its lines with their ends; it is read once."""
    lines = file_lines(file, errors)
    passed: list[str] = []
    for line in lines:
        passed.append(line)
        if line.strip():
            break
    return (passed or [""])[-1], chain(passed, lines)


def read_rows(
    file: Path,
    columns: Columns,
    skip: Skip,
    begun: tuple[str, Iterator[str]] | None = None,
) -> Iterator[Row]:
    """Yield the rows of a CSV with a header or of JSON lines, with the cells of `columns`.

    `skip` is called with the reason and the place of a row that cannot be used. An optional column
    that a file or a row lacks has no cell. `begun` is what `first_line` returned, where it was
    called. Raises DlkitError for a file that is not understood, and for a CSV without a column.
    """
    first, lines = begun or first_line(file)
    if first.lstrip().startswith("["):
        raise DlkitError(
            "a JSON list; give JSON lines, an object a line, as of jq -c '.[]' FILE", file
        )
    is_json = first.lstrip().startswith("{")
    return (json_rows if is_json else table_rows)(lines, file, columns, skip)


def table_rows(lines: Iterator[str], file: Path, columns: Columns, skip: Skip) -> Iterator[Row]:
    """The rows of a CSV."""
    free_text = {name for column in columns.values() if column.free_text for name in column.names}
    header, rows = open_csv(lines, file, skip, free_text)
    places = {}
    for key, column in columns.items():
        found = [name for name in column.names if name in header]
        if found:
            places[key] = header.index(found[0])
        elif not column.optional:
            raise DlkitError(f"no column named {column}; the first line has {brief(header)}", file)
        if len(found) > 1:
            log(f"{file.name}: {key} is the column {found[0]}, not {' or '.join(found[1:])}")
    for number, row in rows:
        yield f"{file}:{number}", {key: row[place] for key, place in places.items()}


def json_rows(lines: Iterator[str], file: Path, columns: Columns, skip: Skip) -> Iterator[Row]:
    """The rows of JSON lines."""
    for number, found in json_objects(lines, file, skip):
        if found is None:
            continue
        where = f"{file}:{number}"
        try:
            yield where, cells_of(found, columns)
        except Unusable as error:
            skip(str(error), where)


def cells_of(found: dict[str, Any], columns: Columns) -> dict[str, str]:
    """The cells of an object. Raises Unusable for one that is missing or of another type."""
    fields = {name.strip().lower(): value for name, value in found.items()}
    cells = {}
    for key, column in columns.items():
        value = next((fields[n] for n in column.names if fields.get(n) is not None), None)
        if value is None:
            if not column.optional:
                raise Unusable(f"object without {column}")
        elif column.joined_by and isinstance(value, list):
            items = [cell_of(item, key, column) for item in value]
            if any(column.joined_by in item for item in items):
                raise Unusable(f"{key} with {column.joined_by!r} in a list")
            cells[key] = column.joined_by.join(items)
        else:
            cells[key] = cell_of(value, key, column)
    return cells


def cell_of(value: Any, key: str, column: Column) -> str:
    """The cell of a value of JSON. Raises Unusable for one of another type."""
    if isinstance(value, str):
        return value
    if column.number and isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    kind = "string or number" if column.number else "string"
    raise Unusable(f"{key} that is no {kind}")


def finish_rows(ledger: Ledger, file: Path, allowed: float) -> None:
    """Print the counts of a file's rows.

    Raises DlkitError where all are skipped, or more than the allowed share.
    """
    ledger.require(ROWS, file)
    ledger.check(allowed, file)
    ledger.report()


def brief(names: list[str], most: int = 8) -> str:
    """The names in quotes, at most `most` of them."""
    quoted = [repr(name if len(name) <= 40 else f"{name[:40]}…") for name in names[:most]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(quoted) + more
