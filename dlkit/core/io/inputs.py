"""Texts in tables: a column of CSV, TSV or JSON lines as inputs, the others carried to the results.

A table is read as a stream. A row is an input, which its id names, or its number, counted from 1; a
row that cannot be used is a Failure in its place. Loads no torch.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.csv_files import check_header, csv_rows, explain, keep_ends
from dlkit.core.io.json_lines import Unusable, parse_object
from dlkit.core.io.text import LONGEST_LINE, blocks

Fields = dict[str, Any]
OWN = {"index", "path", "error"}  # fields of the records of shards and of failures
SEPARATORS = {"csv": ",", "tsv": "\t"}


class TableFormat(StrEnum):
    """The formats of tables of inputs."""

    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"


@dataclass
class Table:
    """A table of inputs: the column of texts, that of ids, and the rows that wait for results.

    `reserved` are the fields of results, whose names no other column may have. `format` None: the
    inputs are lines, and nothing is carried.
    """

    format: TableFormat
    text: str
    id: str | None
    reserved: Collection[str]
    errors: str = "strict"  # of bytes that are not UTF-8
    waiting: dict[int, tuple[str, Fields]] = field(default_factory=dict)  # by the number of the row
    header: Sequence[str] = ()  # that all files of a CSV have
    arrived: bool = False  # whether the next line has been read with this one

    def read(self, sources: Sequence[str], last: tuple[int, Fields] | None) -> Iterator[Any]:
        """The texts of all rows, a Failure for a row without one, and for an unreadable file.

        `last` are the number and the record of the last result so far. Raises DlkitError where it
        is of a row with another id.
        """
        seen: dict[str, str] = {}
        for number, (place, row) in enumerate(self.rows(sources)):
            name, carried = f"row {number + 1}", Fields()
            found: str | Failure
            try:
                if isinstance(row, Failure):
                    raise Unusable(row.error)
                carried = {key: value for key, value in row.items() if key != self.text}
                if self.id is not None:
                    name = self.name_of(row, place, seen)
                if last is not None and last[0] == number and self.id is not None:
                    self.check_last(last[1], name)
                found = self.text_of(row)
            except Unusable as error:
                found = Failure(name, f"{place}: {error}")
            self.waiting[number] = name, carried
            yield found

    def rows(self, sources: Sequence[str]) -> Iterator[tuple[str, Fields | Failure]]:
        """The place and the fields of each row."""
        for source in sources:
            name = "stdin" if source == "-" else source
            read = self.objects if self.format == TableFormat.jsonl else self.cells
            try:
                yield from read(self.lines(source), Path(name))
            except DlkitError as error:
                yield name, Failure(name, error.reason_for(name))

    def lines(self, source: str) -> Iterator[str]:
        """The lines of a file with their ends, in blocks."""
        for block in blocks(source, self.errors, longest=LONGEST_LINE):
            found = list(keep_ends(block.decode()))
            for number, line in enumerate(found, start=1):
                self.arrived = number < len(found)
                yield line

    def windows(self, inputs: Iterable[Any], most: int) -> Iterator[list[Any] | Failure]:
        """The inputs that have arrived together, at most `most`; failures by themselves."""
        window: list[Any] = []
        for item in inputs:
            failed = isinstance(item, Failure)
            if not failed:
                window.append(item)
            if window and (failed or len(window) == most or not self.arrived):
                yield window
                window = []
            if failed:
                yield item
        if window:
            yield window

    def objects(self, lines: Iterable[str], file: Path) -> Iterator[tuple[str, Fields | Failure]]:
        """The objects of JSON lines; blank lines are no rows."""
        for number, line in enumerate(lines, start=1):
            place = f"{file}:{number}"
            if not line.strip():
                continue
            try:
                row = parse_object(line)
                self.check_names(row)
                yield place, row
            except Unusable as error:
                yield place, Failure(place, str(error))

    def cells(self, lines: Iterator[str], file: Path) -> Iterator[tuple[str, Fields | Failure]]:
        """The rows of a CSV or TSV by the names of its header."""
        separator = SEPARATORS[self.format]
        first = next(lines, "")
        try:
            header = next(csv.reader([first], delimiter=separator, strict=True), [])
        except csv.Error as error:
            raise DlkitError(f"line 1: {explain(error)}", file) from error
        header = [name.strip() for name in header]
        if not header:
            raise DlkitError("no header; the first line must have the names of the columns", file)
        check_header(header, file)
        for name in filter(None, (self.text, self.id)):
            if name not in header:
                names = ", ".join(map(repr, header))
                raise DlkitError(f"no column named {name!r}; the first line has {names}", file)
        try:
            self.check_names(header)
        except Unusable as error:
            raise DlkitError(f"line 1: {error}", file) from error
        self.header = self.header or header
        if header != self.header:
            raise DlkitError("other columns than in the first file", file)
        skipped: list[tuple[str, Failure]] = []

        def skip(reason: str, place: str) -> None:
            skipped.append((place, Failure(place, reason)))

        for number, row in csv_rows(lines, 1, separator, header, file, skip, ()):
            yield from skipped
            skipped.clear()
            yield f"{file}:{number}", dict(zip(header, row, strict=True))
        yield from skipped

    def check_names(self, names: Iterable[str]) -> None:
        """Raise Unusable for a carried column with the name of a field of the results."""
        for name in names:
            if name != self.text and (name in OWN or name in self.reserved):
                raise Unusable(f"the column {name!r} has the name of a result; rename it")

    def name_of(self, row: Fields, place: str, seen: dict[str, str]) -> str:
        """The id of a row. Raises Unusable for one that is missing or that an earlier row has."""
        value = row.get(self.id or "")
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise Unusable(f"no id in {self.id!r}")
        name = str(value)
        if name in seen:
            raise Unusable(f"the id {name!r} is that of {seen[name]}")
        seen[name] = place
        return name

    def text_of(self, row: Fields) -> str:
        """The text of a row. Raises Unusable for a row without."""
        if self.text not in row:
            raise Unusable(f"no field {self.text!r}")
        value = row[self.text]
        if not isinstance(value, str):
            raise Unusable(f"{self.text!r} is no string")
        return value

    def check_last(self, record: Fields, name: str) -> None:
        """Raise DlkitError where the last record so far is of another id."""
        known = str(record.get(self.id or ""))
        if known != name:
            raise DlkitError(
                f"--resume: the results so far are of other inputs: id {known!r} is now {name!r}"
            )

    def carry(
        self,
        results: Iterable[Any],
        number_of: Callable[[int], int],
    ) -> Iterator[Any]:
        """The results with the other columns of their rows; a failed one has its row's name.

        `number_of` returns the number of the row of each result.
        """
        for place, result in enumerate(results):
            number = number_of(place)
            while (first := next(iter(self.waiting))) < number:  # of another shard
                del self.waiting[first]
            name, carried = self.waiting.pop(number)
            if isinstance(result, Failure):
                object.__setattr__(result, "path", name)
            object.__setattr__(result, "carried", carried)
            yield result
