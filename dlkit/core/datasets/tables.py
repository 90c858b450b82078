"""Tables of images with labels or captions: CSV, TSV and JSON lines. Loads no torch.

One file with or without a column `split`, or SPLIT.csv, SPLIT.tsv, SPLIT.jsonl in a folder. Paths
are relative to the file, or to a folder images/ beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlkit.core.datasets.captions import CaptionLine, captioned
from dlkit.core.datasets.classes import read_classes
from dlkit.core.datasets.folders import listed_label, log_spelled
from dlkit.core.datasets.samples import ALL, Classes, Sample
from dlkit.core.io.image_files import exists
from dlkit.core.io.rows import Column, first_line, read_rows
from dlkit.core.io.splits import SPLITS, find_splits, is_split_name, split_of
from dlkit.core.io.walk import suffix_of
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
PATHS = ("path", "image", "file", "filename", "file_name", "image_path", "image_name")
LABELS = ("label", "labels", "class", "category")
CAPTIONS = ("caption", "captions", "text", "comment")
SPLIT_COLUMNS = ("split", "subset", "partition")
NO_SPLIT = "row without a split"
Kind = Literal["label", "caption"]
FOLDERS = ("", "images", "Images")  # that paths are relative to
SEVERAL = ";"  # between the labels of an image


@dataclass(frozen=True)
class TableRow:
    """A row: its image, its label or caption, and its place in the table."""

    path: str
    text: str
    where: str


class Table:
    """The rows of one file by their split; `all` where it has no column of splits."""

    def __init__(self, file: Path, kind: Kind) -> None:
        self.bad: list[tuple[str, str]] = []  # reason and place of rows that are in no split
        self.rows: dict[str, list[TableRow]] = {}
        is_text = kind == "caption"
        columns = {
            "path": Column(PATHS),
            kind: Column(CAPTIONS, free_text=True)
            if is_text
            else Column(LABELS, number=True, joined_by=SEVERAL),
            "split": Column(SPLIT_COLUMNS, optional=True),
        }
        spelled: dict[str, str] = {}
        for where, cells in read_rows(file, columns, lambda *bad: self.bad.append(bad)):
            name = cells.get("split", ALL).strip()
            if not name:
                self.bad.append((NO_SPLIT, where))
                continue
            split = split_of(name) or name
            if split != name:
                spelled[name] = split
            self.rows.setdefault(split, []).append(TableRow(cells["path"], cells[kind], where))
        if len(self.rows) > 1 and ALL in self.rows:  # JSON lines, some of them with a split
            self.bad += [(NO_SPLIT, row.where) for row in self.rows.pop(ALL)]
        log_spelled(file, spelled)
        for name in self.rows.keys() - {*SPLITS, ALL}:
            count = len(self.rows[name])
            log(f"{file}: {count:,} rows of the split {name!r}, none of train, val and test")

    def report_bad(self, split: str, ledger: Ledger, kind: str) -> None:
        """Count the rows that are in no split: once, and as skipped with the first split."""
        first = next((name for name in (*SPLITS, ALL) if name in self.rows), split)
        for reason, where in self.bad:
            if split == first:
                ledger.skip(kind, reason, where)
            else:
                ledger.note(f"rows in no split ({reason})", where)
        self.bad = []


class Tables:
    """The tables of a data set: one, or one for each split."""

    layout = "tables"

    def __init__(self, data: Path, kind: Kind | None) -> None:
        self.root = data.parent if data.is_file() else data
        self.files = {ALL: data} if data.is_file() else table_files(data)
        self.kind = kind or kind_of_table(next(iter(self.files.values())))
        self.classes = read_classes(self.root) or Classes()
        self.tables: dict[Path, Table] = {}

    def table(self, file: Path) -> Table:
        """The content of a file, which is read once."""
        if file not in self.tables:
            self.tables[file] = Table(file, self.kind)
        return self.tables[file]

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a file or rows of their own, or only `all`."""
        if ALL not in self.files:
            return list(self.files)
        return list(self.table(self.files[ALL]).rows) or [ALL]

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split with their labels or captions, in the order of the rows."""
        counted = "captions" if self.kind == "caption" else "images"
        table = self.table(self.files.get(split) or self.files[ALL])
        table.report_bad(split, ledger, counted)
        rows = table.rows.get(split, [])
        if ALL not in self.files:
            rows = [*rows, *table.rows.get(ALL, [])]
            for name in table.rows.keys() - {split, ALL}:
                for row in table.rows[name]:
                    reason = f"row of the split {name} in the file of {split}"
                    ledger.skip(counted, reason, row.where)
        if self.kind == "caption":
            lines = (CaptionLine(image_path(row), row.text, row.where) for row in rows)
            return captioned(lines, ledger)
        return self.labeled(rows, ledger)

    def labeled(self, rows: Iterable[TableRow], ledger: Ledger) -> list[Sample]:
        """The images with their labels; those with different labels in two rows are skipped."""
        samples: list[Sample] = []
        labels_of: dict[Path, set[str]] = {}
        conflicting: set[Path] = set()
        for row in rows:
            path = image_path(row)
            place = f"{row.where} ({path})"
            if not exists(path):
                ledger.skip("images", "missing image", place)
                continue
            given = dict.fromkeys(filter(None, map(str.strip, row.text.split(SEVERAL))))
            labels = tuple(listed_label(label, self.classes.names) for label in given)
            unlisted = [label for label in labels if label not in self.classes.names]
            if self.classes.names and unlisted:
                reason = f"label {unlisted[0]!r} that classes.txt does not list"
                ledger.skip("images", reason, place)
                continue
            if path in labels_of:
                ledger.note("images that several rows list", place)
            if labels_of.setdefault(path, set(labels)) != set(labels):
                conflicting.add(path)
            samples.append(Sample(path, row.where, labels=labels))
        for sample in samples:
            if sample.path in conflicting:
                reason = "rows that give an image different labels"
                ledger.skip("images", reason, f"{sample.where} ({sample.path})")
        return [sample for sample in samples if sample.path not in conflicting]


def image_path(row: TableRow) -> Path:
    """The image of a row: its file's name as it is, else without blanks, else with slashes.

    It is relative to the folder of the table, or to a folder of images in that.
    """
    root = Path(row.where.rpartition(":")[0]).parent
    plain = row.path.strip()
    names = dict.fromkeys([row.path, plain, plain.replace("\\", "/")])
    paths = (root / folder / name for folder in FOLDERS for name in names)
    return next((path for path in paths if exists(path)), root / plain)


def table_files(data: Path) -> dict[str, Path]:
    """The table of each split in a folder. Raises DlkitError for two of one split."""
    named = {
        path.name: path
        for path in sorted(data.glob("[!.]*"))
        if suffix_of(path.name) in SUFFIXES and path.is_file() and is_split_name(path.name)
    }
    found = find_splits(named, data)
    log_spelled(data, {Path(name).stem: split for split, name in found.items()})
    return {split: named[name] for split, name in found.items()}


def has_tables(data: Path) -> bool:
    """Whether a folder has a table for a split."""
    return any(
        suffix_of(path.name) in SUFFIXES and is_split_name(path.name) and path.is_file()
        for path in data.glob("[!.]*")
    )


def kind_of_table(file: Path) -> Kind:
    """The kind of a table by its first line."""
    first, _ = first_line(file)
    return "caption" if any(name in first.lower() for name in CAPTIONS) else "label"
