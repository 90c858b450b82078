"""Files of pairs."""

import gzip
import json
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.translate.pairs import PairFiles, read_pairs
from tests.translate.helpers import texts_of_pairs, write_lines


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    odd = ["a\u2028b", "c\x0bd", "e\x85f", "g\rh", "last"]
    source = write_lines(tmp_path / "s", [f"\ufeff{odd[0]}", *odd[1:]])
    target = tmp_path / "t"
    target.write_bytes("".join(f"{n}\r\n" for n in range(5)).encode())
    pairs = read_pairs(PairFiles([], [source], [str(target)]), 0, Skipped())
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
    skipped = Skipped()
    found = texts_of_pairs(read_pairs(files, 0, skipped))
    assert ["".join(pair) for pair in found] == ["ab", "cd", "ef", "gh", "ij"]
    assert not skipped.places


def test_a_mismatch_in_lines_names_both_counts(tmp_path: Path) -> None:
    source, target = write_lines(tmp_path / "s", ["a"] * 7), write_lines(tmp_path / "t", ["b"] * 5)
    for files in (PairFiles([], [source], [target]), PairFiles([], [target], [source])):
        with pytest.raises(DlkitError, match=r"(7 lines .* 5|5 lines .* 7): each line"):
            read_pairs(files, 0, Skipped())
    with pytest.raises(DlkitError, match="1 source files and 2 target files"):
        read_pairs(PairFiles([], [source], [target, target]), 0, Skipped())


def test_lines_that_are_no_pairs_are_counted(tmp_path: Path) -> None:
    table = write_lines(tmp_path / "a.tsv", ["a\tb", "no tab", "\tb", "a\t ", ""])
    rows = ["{", '"text"', '{"source": 1, "target": "b"}', '{"source": "a"}']
    skipped = Skipped()
    found = read_pairs(PairFiles([table, write_lines(tmp_path / "b.jsonl", rows)]), 0, skipped)
    assert texts_of_pairs(found) == [("a", "b")]
    assert {kind: len(places) for kind, places in skipped.places.items()} == {
        "line without a tab": 1,
        "empty line": 3,
        "line that is not JSON": 1,
        "line without text in source and target": 3,
    }
    assert skipped.places["empty line"] == [f"{table}:{n}" for n in (3, 4, 5)]


def test_dialogues_have_the_turns_before(tmp_path: Path) -> None:
    rows = ["q1\ta1", "q2\ta2", "q3\ta3", "\t", "q4\ta4", "q5\ta5"]
    skipped = Skipped()
    pairs = read_pairs(PairFiles([write_lines(tmp_path / "a.tsv", rows)]), 3, skipped)
    assert [pair.turns for pair in pairs] == [
        ("q1",),
        ("q1", "a1", "q2"),
        ("a1", "q2", "a2", "q3"),
        ("q4",),
        ("q4", "a4", "q5"),
    ]
    assert not skipped.places
    without = read_pairs(PairFiles([write_lines(tmp_path / "a.tsv", rows)]), 0, Skipped())
    assert {pair.before for pair in without} == {()}
