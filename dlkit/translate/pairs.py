"""Pairs of sentences on disk: parallel files, TSV, CSV or JSON lines, in any number.

Only \\n ends a line, so that unusual characters inside one cannot shift the lines after it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.io.csv_files import Skip
from dlkit.core.io.json_lines import Unusable, json_objects
from dlkit.core.io.rows import (
    ROWS,
    Column,
    Columns,
    cells_of,
    finish_rows,
    first_line,
    read_rows,
)
from dlkit.core.io.text import lines
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log

JSON_LINES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation, or a question and its answer; `before` are earlier turns."""

    source: str
    target: str
    where: str
    before: tuple[str, ...] = ()

    @property
    def turns(self) -> tuple[str, ...]:
        return (*self.before, self.source)


@dataclass(frozen=True)
class PairFiles:
    """The files that pairs are read from; `sources` and `targets` are parallel files."""

    data: Sequence[str] = ()
    sources: Sequence[str] = ()
    targets: Sequence[str] = ()
    keys: tuple[str, str] = ("source", "target")
    errors: str = "strict"

    def __bool__(self) -> bool:
        return bool(self.data or self.sources or self.targets)

    def __str__(self) -> str:
        return ", ".join([*self.data, *self.sources, *self.targets])


def read_pairs(files: PairFiles, context: int, allowed: float, ledgers: list[Ledger]) -> list[Pair]:
    """All pairs of the files; a ledger for each file counts its rows.

    With a `context` each pair has that many previous turns, and a blank pair ends a dialogue.
    Raises DlkitError where more than the allowed share of a file's rows cannot be used.
    """
    if len(files.sources) != len(files.targets):
        raise DlkitError(
            f"{len(files.sources)} source files and {len(files.targets)} target files:"
            " give one target for each source, in the same order"
        )
    found: list[Pair] = []
    for source, target in zip(files.sources, files.targets, strict=True):
        ledger = Ledger(f"{Path(source).name}, {Path(target).name}")
        found += usable_pairs(read_parallel(source, target, files.errors), context, ledger)
        finish_rows(ledger, Path(source), allowed)
        ledgers.append(ledger)
    for file in files.data:
        ledger = Ledger(Path(file).name)
        rows = read_file(file, files.keys, files.errors, partial(ledger.skip, ROWS))
        found += usable_pairs(rows, context, ledger)
        finish_rows(ledger, Path(file), allowed)
        ledgers.append(ledger)
    return found


def read_file(file: str, keys: tuple[str, str], errors: str, skip: Skip) -> Iterator[Pair]:
    """The pairs of a TSV without a header, a CSV with one, or JSON lines."""
    columns = {"source": Column((keys[0].lower(),)), "target": Column((keys[1].lower(),))}
    path = Path(file)
    first, found = first_line(path, errors)
    suffix = "".join(path.suffixes).lower()
    if any(end in suffix for end in JSON_LINES) or (first.startswith("{") and "\t" not in first):
        yield from read_json_lines(found, file, columns, skip)
    elif ".csv" in suffix:
        for where, row in read_rows(path, columns, skip, (first, found)):
            yield Pair(row["source"], row["target"], where)
    else:
        yield from read_tsv(found, file, skip)


def read_parallel(source: str, target: str, errors: str) -> Iterator[Pair]:
    """The pairs of two files, line by line. Raises DlkitError where one has more lines."""
    counts = [0, 0]
    for row in zip_longest(lines(source, errors), lines(target, errors)):
        for side, line in enumerate(row):
            counts[side] += line is not None
        if row[0] is not None and row[1] is not None:
            yield Pair(row[0], row[1], f"{source}:{counts[0]}")
    if counts[0] != counts[1]:
        raise DlkitError(
            f"{source} has {counts[0]} lines and {target} {counts[1]}:"
            " each line needs its translation in the same line"
        )


def read_tsv(lines: Iterable[str], file: str, skip: Skip) -> Iterator[Pair]:
    """The first two columns of a TSV, whose rows have as many columns as the first."""
    width = 0
    for number, line in enumerate(lines, start=1):
        where = f"{file}:{number}"
        columns = line.rstrip("\r\n").split("\t")
        if not line.strip():
            yield Pair("", "", where)
        elif len(columns) == 1:
            skip("line without a tab", where)
        elif width and len(columns) != width:
            skip(f"row with another number of columns than the first ({width})", where)
        else:
            if not width and len(columns) > 2:
                log(f"{Path(file).name}: {len(columns)} columns; the first two are read")
            width = len(columns)
            yield Pair(columns[0], columns[1], where)


def read_json_lines(
    lines: Iterable[str], file: str, columns: Columns, skip: Skip
) -> Iterator[Pair]:
    """The two fields of JSON objects, one a line, or of the object `translation` in each."""
    for number, found in json_objects(lines, file, skip):
        where = f"{file}:{number}"
        if found is None:
            yield Pair("", "", where)
            continue
        inner = found.get("translation")
        try:
            cells = cells_of(inner if isinstance(inner, dict) else found, columns)
        except Unusable as error:
            skip(str(error), where)
        else:
            yield Pair(cells["source"], cells["target"], where)


def usable_pairs(pairs: Iterable[Pair], context: int, ledger: Ledger) -> Iterator[Pair]:
    """The pairs that have text on both sides, with the turns before them; blank lines are none."""
    stripped = (Pair(pair.source.strip(), pair.target.strip(), pair.where) for pair in pairs)
    for pair in add_turns(stripped, context):
        if pair.source and pair.target:
            ledger.use(ROWS)
            yield pair
        elif pair.source or pair.target:
            ledger.skip(ROWS, "pair with text on one side only", pair.where)


def add_turns(pairs: Iterable[Pair], context: int) -> Iterator[Pair]:
    """The pairs with up to `context` previous turns each; a blank pair ends a dialogue."""
    before: list[str] = []
    for pair in pairs:
        yield replace(pair, before=tuple(before))
        if context and pair.source and pair.target:
            before = [*before, pair.source, pair.target][-context:]
        elif not pair.source and not pair.target:
            before = []
