"""Splitting of long lines."""

import numpy as np

from dlkit.translate.sentences import split_line


def test_long_lines_are_cut_at_sentence_ends() -> None:
    def fits(text: str) -> bool:
        return len(text) <= 20

    assert split_line("A dog runs. It is red.", lambda text: True) == ["A dog runs. It is red."]
    assert split_line(" A dog runs.  It is red! ", fits) == ["A dog runs.", "It is red!"]
    assert split_line('He said "no." Then (so) he left...', fits) == [
        'He said "no."',
        "Then (so) he left...",
    ]
    assert split_line("狗在跑。它是红色的。" * 3, fits) == ["狗在跑。", "它是红色的。"] * 3
    assert split_line("v1.5 costs 3.50 and e.g. this", fits) == ["v1.5 costs 3.50", "and e.g. this"]
    assert split_line("one two three four five six", fits) == ["one two three", "four five six"]
    assert split_line("x" * 50, fits) == ["x" * 12, "x" * 13, "x" * 12, "x" * 13]
    assert split_line(" \t ", fits) == []
    assert split_line("ab", lambda text: False) == ["a", "b"]


def test_nothing_of_a_long_line_is_lost() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        line = "".join(rng.choice(list("ab. !?。\"'"), size=60))
        assert "".join("".join(split_line(line, lambda text: len(text) <= 9)).split()) == "".join(
            line.split()
        )
