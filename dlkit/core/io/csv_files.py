"""CSV files with a header, whose columns may have one of several names."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlkit.core.errors import DlkitError


def csv_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and columns of each row of a CSV with a header."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            for row in reader:
                yield reader.line_num, {k.strip().lower(): v or "" for k, v in row.items() if k}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DlkitError(f"not a CSV in UTF-8 ({error})", file) from error


def column(row: dict[str, str], names: Sequence[str], file: Path) -> str:
    """The value of the column that has one of these names."""
    for name in names:
        if name in row:
            return row[name]
    raise DlkitError(f"no column named {' or '.join(names)}", file)
