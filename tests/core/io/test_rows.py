"""Rows of CSV files and JSON lines: columns, lines that cannot be used, counts."""

import gzip
import json
import os
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io.rows import ROWS, Column, Row, finish_rows, read_rows
from dlkit.core.ledger import Ledger

COLUMNS = {
    "text": Column(("text", "sentence"), free_text=True),
    "label": Column(("label", "class"), number=True),
    "split": Column(("split",), optional=True),
}


def read(tmp_path: Path, content: str, name: str = "rows") -> tuple[list[Row], Ledger]:
    file, ledger = tmp_path / name, Ledger(name)
    file.write_text(content, encoding="utf-8")
    return list(read_rows(file, COLUMNS, partial(ledger.skip, ROWS))), ledger


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_lines_and_csv_give_the_same_rows(mark: str, tmp_path: Path) -> None:
    texts = ['say "hi", you', "a; b\tc", "日本 \\u0041 \u2028 x", "é" * 3]
    objects = [{"Text": text, "label": n, "id": n} for n, text in enumerate(texts)]
    lines = "".join(json.dumps(one) + "\n" for one in objects)
    doubled = [text.replace('"', '""') for text in texts]
    table = "id,Text,label\r\n" + "".join(f'{n},"{text}",{n}\r\n' for n, text in enumerate(doubled))
    expected = [{"text": text, "label": str(n)} for n, text in enumerate(texts)]
    for content, first in ((lines, 1), (table, 2)):
        rows, ledger = read(tmp_path, mark + content)
        assert [row for _, row in rows] == expected
        assert [where for where, _ in rows] == [
            f"{tmp_path / 'rows'}:{number}" for number in range(first, first + len(texts))
        ]
        assert not ledger.places


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "label": "x"', "line that is not JSON"),
        ("{'text': 'a', 'label': 'x'}", "line that is not JSON"),
        ('["a", "x"]', "line that is no JSON object"),
        ('"a"', "line that is no JSON object"),
        ('{"text": "a", "text": "b", "label": "x"}', "object with a key twice"),
        ('{"text": "a", "label": "x", "score": NaN}', "NaN, which JSON does not have"),
        ('{"text": "a", "label": "x", "score": -Infinity}', "-Infinity, which JSON does not have"),
        ('{"text": "a"}', "object without label or class"),
        ('{"text": null, "label": "x"}', "object without text or sentence"),
        ('{"text": 7, "label": "x"}', "text that is no string"),
        ('{"text": ["a"], "label": "x"}', "text that is no string"),
        ('{"text": "a", "label": true}', "label that is no string or number"),
        ('{"text": "a", "label": ["x", "y"]}', "label that is no string or number"),
        (r'{"text": "a\ud800", "label": "x"}', "text with half of a surrogate pair"),
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "JSON nested too deeply"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", "line that is not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: str, reason: str, tmp_path: Path) -> None:
    good = '{"text": "a", "label": "x"}'
    rows, ledger = read(tmp_path, f"{good}\n{line}\n\n{good}\n")
    assert [where.rpartition(":")[2] for where, _ in rows] == ["1", "4"]
    assert ledger.places == {ROWS: {reason: [f"{tmp_path / 'rows'}:2"]}}


def test_a_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, r'{"text": "\ud83d\ude00", "label": 1.5}')
    assert rows[0][1] == {"text": "😀", "label": "1.5"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1, 2]\n", "a JSON list; give JSON lines"),
        ("words,label\na,x\n", "no column named text or sentence; the first line has 'words'"),
        ("", "no header"),
    ],
)
def test_other_files_are_refused(content: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match=reason):
        read(tmp_path, content)


def test_what_is_chosen_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(tmp_path, "sentence;text;label\na;b;c\n", "t.csv")
    assert capsys.readouterr().err.splitlines() == [
        "t.csv: semicolons separate its columns",
        "t.csv: text is the column text, not sentence",
    ]


def test_used_and_skipped_rows_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"text {n},x" for n in range(990)] + ["one, two,x"] * 10
    rows, ledger = read(tmp_path, "text,label\n" + "\n".join(lines), "t.csv")
    ledger.use(ROWS, len(rows))
    finish_rows(ledger, tmp_path / "t.csv", 0.01)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "t.csv: 990 rows"
    assert second.startswith("t.csv: skipped 10 of 1,000 rows (1 %): 10 row with another number")
    with pytest.raises(DlkitError, match=r"10 of 1,000 rows .*most often: row with .*:992"):
        finish_rows(ledger, tmp_path / "t.csv", 0.009)
    ledger.used = Counter()
    with pytest.raises(DlkitError, match="none of the 10 rows"):
        finish_rows(ledger, tmp_path / "t.csv", 1.0)


def test_a_pipe_and_a_compressed_file_are_read_once(tmp_path: Path) -> None:
    content = b"text,label\n" + b"a,x\n" * 1000
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[content]).start()
    for name in ("t.csv.gz", "pipe"):
        ledger = Ledger(name)
        rows = list(read_rows(tmp_path / name, COLUMNS, partial(ledger.skip, ROWS)))
        assert len(rows) == 1000
