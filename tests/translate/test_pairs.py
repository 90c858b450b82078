"""Files of pairs."""

import gzip
import json
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger
from dlkit.translate.pairs import PairFiles, read_pairs
from tests.translate.helpers import texts_of_pairs, write_lines


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    odd = ["a\u2028b", "c\x0bd", "e\x85f", "g\rh", "last"]
    source = write_lines(tmp_path / "s", [f"\ufeff{odd[0]}", *odd[1:]])
    target = tmp_path / "t"
    target.write_bytes("".join(f"{n}\r\n" for n in range(5)).encode())
    pairs = read_pairs(PairFiles([], [source], [str(target)]), 0, 0.01, [])
    assert texts_of_pairs(pairs) == list(zip(odd, "01234", strict=True))


def test_several_files_of_each_kind(tmp_path: Path) -> None:
    packed = tmp_path / "c.tsv.gz"
    packed.write_bytes(gzip.compress(b"e\tf\tattribution\n"))
    rows = [{"en": "g", "de": "h"}, {"translation": {"de": "j", "en": "i"}}]
    as_json = write_lines(tmp_path / "d.jsonl", [json.dumps(row) for row in rows])
    files = PairFiles(
        [str(packed), as_json],
        [write_lines(tmp_path / "a.en", ["a"]), write_lines(tmp_path / "b.en", ["c"])],
        [write_lines(tmp_path / "a.de", ["b"]), write_lines(tmp_path / "b.de", ["d"])],
        ("en", "de"),
    )
    ledgers: list[Ledger] = []
    found = texts_of_pairs(read_pairs(files, 0, 1.0, ledgers))
    assert ["".join(pair) for pair in found] == ["ab", "cd", "ef", "gh", "ij"]
    assert not any(ledger.places for ledger in ledgers)


def test_a_mismatch_in_lines_names_both_counts(tmp_path: Path) -> None:
    source, target = write_lines(tmp_path / "s", ["a"] * 7), write_lines(tmp_path / "t", ["b"] * 5)
    for files in (PairFiles([], [source], [target]), PairFiles([], [target], [source])):
        with pytest.raises(DlkitError, match=r"(7 lines .* 5|5 lines .* 7): each line"):
            read_pairs(files, 0, 0.01, [])
    with pytest.raises(DlkitError, match="1 source files and 2 target files"):
        read_pairs(PairFiles([], [source], [target, target]), 0, 0.01, [])


def test_lines_that_are_no_pairs_are_counted(tmp_path: Path) -> None:
    table = write_lines(tmp_path / "a.tsv", ["a\tb", "no tab", "\tb", "a\t ", "", "a\tb\tc"])
    rows = ["{", '"text"', '{"source": 1, "target": "b"}', '{"source": "a"}']
    rows.append('{"source": "c", "target": "d"}')
    ledgers: list[Ledger] = []
    found = read_pairs(PairFiles([table, write_lines(tmp_path / "b.jsonl", rows)]), 0, 1.0, ledgers)
    assert texts_of_pairs(found) == [("a", "b"), ("c", "d")]
    of_table, of_json = (
        {kind: [place.rpartition(":")[2] for place in places] for kind, places in rows.items()}
        for rows in (ledger.places["rows"] for ledger in ledgers)
    )
    assert of_table == {
        "line without a tab": ["2"],
        "pair with text on one side only": ["3", "4"],
        "row with another number of columns than the first (2)": ["6"],
    }
    assert of_json == {
        "line that is not JSON": ["1"],
        "line that is no JSON object": ["2"],
        "source that is no string": ["3"],
        "object without target": ["4"],
    }
    assert [ledger.seen("rows") for ledger in ledgers] == [5, 5]
    with pytest.raises(DlkitError, match=r"4 of 5 rows of 'a.tsv' .* text on one side only"):
        read_pairs(PairFiles([table]), 0, 0.01, [])


def test_dialogues_have_the_turns_before(tmp_path: Path) -> None:
    rows = ["q1\ta1", "q2\ta2", "q3\ta3", "\t", "q4\ta4", "q5\ta5"]
    ledgers: list[Ledger] = []
    pairs = read_pairs(PairFiles([write_lines(tmp_path / "a.tsv", rows)]), 3, 0.0, ledgers)
    assert [pair.turns for pair in pairs] == [
        ("q1",),
        ("q1", "a1", "q2"),
        ("a1", "q2", "a2", "q3"),
        ("q4",),
        ("q4", "a4", "q5"),
    ]
    assert not any(ledger.places for ledger in ledgers)
    without = read_pairs(PairFiles([write_lines(tmp_path / "a.tsv", rows)]), 0, 0.01, [])
    assert {pair.before for pair in without} == {()}


def test_a_csv_has_columns_of_the_names_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text('id,de,EN\n1,"b, c",a\n2,e\n3,g,f\n')
    ledgers: list[Ledger] = []
    found = read_pairs(PairFiles([str(file)], keys=("en", "de")), 0, 0.4, ledgers)
    assert texts_of_pairs(found) == [("a", "b, c"), ("f", "g")]
    assert ledgers[0].seen("rows") == 3
