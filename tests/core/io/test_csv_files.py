"""Tables of text: separators, quotes, rows that do not fit the header, names of columns."""

import csv
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io.csv_files import file_lines, open_csv


def read(
    tmp_path: Path, content: str | bytes, *free_text: str
) -> tuple[list[tuple[int, dict[str, str]]], dict[str, list[str]]]:
    """The rows of a file of that content, and the places of the skipped ones by reason."""
    file = tmp_path / "t.csv"
    skipped: dict[str, list[str]] = {}

    def skip(reason: str, where: str) -> None:
        skipped.setdefault(reason, []).append(where)

    file.write_bytes(content.encode() if isinstance(content, str) else content)
    header, rows = open_csv(file_lines(file), file, skip, free_text)
    return [(number, dict(zip(header, cells, strict=True))) for number, cells in rows], skipped


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_the_separator_is_that_of_the_header(separator: str, start: str, tmp_path: Path) -> None:
    rows = [["Text ", "label"], ["a, b; c", "x"], ['say "hi"', "y"], ["two\nlines", "z"]]
    file = tmp_path / "written.csv"
    with file.open("w", newline="") as out:
        csv.writer(out, delimiter=separator).writerows(rows)
    found, skipped = read(tmp_path, start + file.read_text())
    assert [list(row.values()) for _, row in found] == rows[1:]
    assert list(found[0][1]) == ["text", "label"]
    assert [number for number, _ in found] == [2, 3, 4]
    assert not skipped


def test_excels_line_of_the_separator(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "sep=;\ntext;label\na, b;x\n")
    assert found == [(3, {"text": "a, b", "label": "x"})]


def test_a_row_with_other_fields_than_the_header_is_skipped_by_its_line(tmp_path: Path) -> None:
    found, skipped = read(tmp_path, "text,label\na,x\nI liked it, really,x\n\nonly\nb,y\n")
    assert [row["text"] for _, row in found] == ["a", "b"]
    (reason,) = skipped
    assert reason == "row with another number of fields than the header (2)"
    assert skipped[reason] == [f"{tmp_path / 't.csv'}:{number}" for number in (3, 5)]


def test_the_last_column_of_free_text_takes_the_rest(tmp_path: Path) -> None:
    found, skipped = read(tmp_path, "path,caption\na.jpg,A red, small box\n", "caption")
    assert found == [(2, {"path": "a.jpg", "caption": "A red, small box"})]
    assert not skipped


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('text,label\na,x\n"b,x\nc,y\n', "line 3: the file ends within a quoted field"),
        ('text,label\na,x\n"b,x\nc "d" e,y\n', "line 3: text or blanks after a closing"),
        ('text,label\n"a' + "\n" * 200 + '",x\n', "line 2: a field of more than 100 lines"),
        ("text,label,text\na,x,b\n", "line 1: two columns are named 'text'; rename one"),
        ("text;a,label\nb;a,c\n", "line 1: commas and semicolons in the header"),
        ("", "no header"),
        ("text,label\na,x\n".encode("utf-16"), "text in UTF-16; convert it"),
        (b"text,label\ncaf\xe9,x\n", "byte 14 is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused_by_its_line(
    content: str | bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DlkitError, match=reason.replace("(", r"\(")):
        read(tmp_path, content)


def test_a_long_text_is_one_field(tmp_path: Path) -> None:
    """Python's own limit is 131072 bytes."""
    found, _ = read(tmp_path, f"text,label\n{'x' * 200_000},y\n")
    assert len(found[0][1]["text"]) == 200_000
