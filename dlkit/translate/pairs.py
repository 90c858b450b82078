"""Pairs of sentences on disk: parallel files, TSV or JSON lines, in any number.

Only \\n ends a line, so that unusual characters inside one cannot shift the lines after it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io.text import lines

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


def read_pairs(files: PairFiles, context: int, skipped: Skipped) -> list[Pair]:
    """All pairs of the files; unusable lines are counted in `skipped`.

    With a `context` each pair has that many previous turns, and a blank pair ends a dialogue.
    """
    if len(files.sources) != len(files.targets):
        raise DlkitError(
            f"{len(files.sources)} source files and {len(files.targets)} target files:"
            " give one target for each source, in the same order"
        )
    found: list[Pair] = []
    for source, target in zip(files.sources, files.targets, strict=True):
        found += usable_pairs(read_parallel(source, target, files.errors), context, skipped)
    for file in files.data:
        if file.removesuffix(".gz").removesuffix(".zst").endswith(JSON_LINES):
            rows = read_json_lines(file, files.keys, files.errors, skipped)
        else:
            rows = read_tsv(file, files.errors, skipped)
        found += usable_pairs(rows, context, skipped)
    return found


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


def read_tsv(file: str, errors: str, skipped: Skipped) -> Iterator[Pair]:
    """The first two columns of a TSV."""
    for number, line in enumerate(lines(file, errors), start=1):
        columns = line.split("\t")
        if len(columns) > 1 or not line.strip():
            yield Pair(columns[0], columns[1] if len(columns) > 1 else "", f"{file}:{number}")
        else:
            skipped.add("line without a tab", f"{file}:{number}")


def read_json_lines(
    file: str, keys: tuple[str, str], errors: str, skipped: Skipped
) -> Iterator[Pair]:
    """The two fields of JSON objects, one a line, or of the object `translation` in each."""
    for number, line in enumerate(lines(file, errors), start=1):
        where = f"{file}:{number}"
        if not line.strip():
            yield Pair("", "", where)
            continue
        try:
            row: Any = json.loads(line)
        except ValueError:
            skipped.add("line that is not JSON", where)
            continue
        if isinstance(row, dict) and isinstance(row.get("translation"), dict):
            row = row["translation"]
        fields = row if isinstance(row, dict) else {}
        source, target = (fields.get(key) for key in keys)
        if isinstance(source, str) and isinstance(target, str):
            yield Pair(source, target, where)
        else:
            skipped.add(f"line without text in {keys[0]} and {keys[1]}", where)


def usable_pairs(pairs: Iterable[Pair], context: int, skipped: Skipped) -> Iterator[Pair]:
    """The pairs that have text on both sides, with the turns before them."""
    stripped = (Pair(pair.source.strip(), pair.target.strip(), pair.where) for pair in pairs)
    for pair in add_turns(stripped, context):
        if pair.source and pair.target:
            yield pair
        elif not context or pair.source or pair.target:
            skipped.add("empty line", pair.where)


def add_turns(pairs: Iterable[Pair], context: int) -> Iterator[Pair]:
    """The pairs with up to `context` previous turns each; a blank pair ends a dialogue."""
    before: list[str] = []
    for pair in pairs:
        yield replace(pair, before=tuple(before))
        if context and pair.source and pair.target:
            before = [*before, pair.source, pair.target][-context:]
        elif not pair.source and not pair.target:
            before = []
