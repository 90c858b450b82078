"""Tables of inputs: what is carried, the names of rows, shards and resuming (through translate)."""

import json
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.failures import Failure
from dlkit.core.io.inputs import Table, TableFormat
from tests.conftest import one_line, records, run

ROWS = [
    {"Key": f"k{n}", "text": text, "Note": f"n, {n}"}
    for n, text in enumerate(["A dog runs.", "Two men sit.", "", "A girl is jumping.", "The sun."])
]
ARGS = ["translate", "--beam", 1, "--in", "jsonl", "--id", "Key"]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, format: str, **settings: Any) -> tuple[Table, list[Any]]:
    table = Table(TableFormat(format), "text", settings.get("id"), {"score"})
    return table, list(table.read([str(path)], None))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_cells_are_those_that_were_written(tmp_path: Path, format: str, ending: str) -> None:
    import csv

    path = tmp_path / "rows"
    with path.open("w", newline="") as file:
        separator = "," if format == "csv" else "\t"
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=separator, lineterminator=ending)
        writer.writeheader()
        writer.writerows(ROWS)
    table, found = read(path, format)
    assert found == [row["text"] for row in ROWS]
    assert [fields for _, fields in table.waiting.values()] == [
        {"Key": row["Key"], "Note": row["Note"]} for row in ROWS
    ]


def test_rows_that_cannot_be_used_are_failures_in_their_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"id": 1, "text": "a"}\nno\n{"id": 2, "text": 3}\n{"id": 3}\n{"id": 1, "text": "b"}\n'
        '{"text": "c"}\n{"id": 4, "text": "d", "score": 1}\n\n{"id": 5, "text": "e"}\n'
    )
    _, found = read(path, "jsonl", id="id")
    texts = [None if isinstance(item, Failure) else item for item in found]
    assert texts == ["a", None, None, None, None, None, None, "e"]
    errors = [item.error for item in found if isinstance(item, Failure)]
    for error, number, part in zip(
        errors,
        range(2, 8),
        ["not JSON", "no string", "no field", f"of {path}:1", "no id", "'score'"],
        strict=True,
    ):
        assert f"{path}:{number}: " in error
        assert part in error


def test_columns_are_carried_and_failures_have_ids(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*ROWS, {"Key": "bad", "text": None, "Note": "x"}]
    result = run(*ARGS, jsonl(tmp_path / "in.jsonl", rows), "-f", "jsonl")
    assert result.code == 1
    found = records(result)
    assert [(row["Key"], row["Note"]) for row in found] == [(r["Key"], r["Note"]) for r in rows]
    assert [row["source"] for row in found[:5]] == [row["text"] for row in ROWS]
    assert found[5]["path"] == "bad"
    assert "dlkit: bad: " in result.err
    lines = "".join(row["text"] + "\n" for row in ROWS)
    plain = run("translate", "--beam", 1, stdin=lines)
    assert [row["translation"] for row in found[:5]] == plain.out.splitlines()


def test_shards_and_resumed_runs_are_those_of_a_whole_run(tmp_path: Path) -> None:
    table = jsonl(tmp_path / "in.jsonl", [*ROWS[:3], {"Key": "bad"}, *ROWS[3:]])
    whole, parts, merged = (tmp_path / f"{name}.jsonl" for name in ("whole", "part", "merged"))
    assert run(*ARGS, table, "-o", whole).code == 1
    for shard in ("0/2", "1/2"):
        run(*ARGS, table, "-o", parts, "--shard", shard)
    assert run("merge", *sorted(tmp_path.glob("part.*-of-*.jsonl")), "-o", merged).code == 0
    assert merged.read_bytes() == whole.read_bytes()
    lines = whole.read_bytes().splitlines(keepends=True)
    for done in (1, 4):
        again = tmp_path / f"again{done}.jsonl"
        Path(f"{again}.partial").write_bytes(b"".join(lines[:done]) + b'{"cut')
        assert run(*ARGS, table, "-o", again, "--resume").code == 1
        assert again.read_bytes() == whole.read_bytes()
    jsonl(table, [{**ROWS[0], "Key": "other"}, *ROWS[1:]])
    Path(f"{tmp_path / 'new.jsonl'}.partial").write_bytes(lines[0])
    other = run(*ARGS, table, "-o", tmp_path / "new.jsonl", "--resume")
    assert other.code == 2
    assert "id 'k0' is now 'other'" in other.err


def test_retried_rows_keep_their_columns(tmp_path: Path) -> None:
    table = jsonl(tmp_path / "in.jsonl", [ROWS[0], {"Key": "k1", "Note": "n, 1"}, ROWS[3]])
    out = tmp_path / "out.jsonl"
    assert run(*ARGS, table, "-o", out).code == 1
    jsonl(table, [ROWS[0], ROWS[1], ROWS[3]])
    assert run(*ARGS, table, "-o", out, "--retry-failed").code == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["Key"], row["source"]) for row in found] == [
        (row["Key"], row["text"]) for row in (ROWS[0], ROWS[1], ROWS[3])
    ]


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    table = jsonl(tmp_path / "in.jsonl", ROWS)
    one_line(run("translate", table, "--id", "Key"), "--id", "--in")
    one_line(run("translate", table, "--in", "jsonl"), "-f jsonl")
    one_line(run("translate", table, "--in", "jsonl", "-f", "csv"), "-f jsonl")
    one_line(run(*ARGS, "--text", "a", "-f", "jsonl"), "--text", "--in")


def test_files_with_other_columns_are_failures(tmp_path: Path) -> None:
    for name, text in (("a", "id,text\n1,a\n"), ("b", "text,id\nb,2\n"), ("c", "id,text\n3,c\n")):
        (tmp_path / name).write_text(text)
    table = Table(TableFormat.csv, "text", "id", ())
    first, wrong, last = table.read([str(tmp_path / name) for name in "abc"], None)
    assert (first, last) == ("a", "c")
    assert isinstance(wrong, Failure)


def test_classify_and_score_carry_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "review": "A wonderful film.", "label": "pos"},
        {"id": "b", "review": "A dull, stupid film.", "label": "neg"},
        {"id": "c", "review": 7, "label": "neg"},
    ]
    table = jsonl(tmp_path / "in.jsonl", rows)
    options = ["--in", "jsonl", "--field", "review", "--id", "id", "-f", "jsonl"]
    labeled = run("classify", table, "-m", "reviews", *options)
    scored = run("lm-generate", "score", table, "-m", "english-ngram", *options)
    for result in (labeled, scored):
        assert result.code == 1
        found = records(result)
        assert [row["id"] for row in found] == ["a", "b", "c"]
        assert [row["label"] for row in found] == ["pos", "neg", "neg"]
        assert [row["text"] for row in found[:2]] == [row["review"] for row in rows[:2]]
        assert "dlkit: c: " in result.err
    best: list[Any] = [row["labels"] for row in records(labeled)[:2]]
    assert [labels[0]["label"] for labels in best] == ["pos", "neg"]
    plain = run("lm-generate", "score", "-m", "english-ngram", stdin="A wonderful film.\n")
    assert str(records(scored)[0]["logprob"]) in plain.out
    cells = tmp_path / "in.csv"
    cells.write_text("id,review\na,A wonderful film.\n")
    result = run(
        "classify", cells, "-m", "reviews", "--in", "csv", "--field", "review", "-f", "csv"
    )
    assert result.out.splitlines()[0] == "id,label,score"
    one_line(run("classify", cells, "--in", "csv", "-f", "csv"), "--in", "images")
    refused = run("classify", cells, "-m", "reviews", "--in", "csv", "-f", "fasttext")
    one_line(refused, "--in", "fasttext")
