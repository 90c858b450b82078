"""Control characters of names and texts: escaped on terminals and in messages, kept in pipes."""

import io
from pathlib import Path

import pytest

from dlkit.core import progress
from dlkit.core.io.streams import Terminal
from tests.conftest import run, run_on_terminal

EVIL = "\x1b[31mred\x1b[2J\x07\u202e"


def test_messages_are_one_short_printable_line() -> None:
    for text in (EVIL, "a\nb", "x" * 100_000, "word " * 1000, "/" + "y" * 5000 + "/z.png: gone"):
        line = progress.one_line(text)
        assert line.isprintable()
        assert len(line) <= 500
    assert progress.one_line(f"{'a' * 300} is not here").endswith("a is not here")
    assert progress.one_line("plain: é 日本 😀") == "plain: é 日本 😀"


def test_a_terminal_gets_escapes_and_a_file_the_text_itself() -> None:
    file = io.StringIO()
    Terminal(file).write(f"a\t{EVIL}\nb\n")
    assert file.getvalue() == "a\t\\x1b[31mred\\x1b[2J\\x07\\u202e\nb\n"


@pytest.mark.parametrize("format", ["text", "csv", "jsonl"])
def test_results_on_a_terminal_move_no_cursor(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text(f"{EVIL} b\n")
    command = ("tokenize", "t.txt", "-f", format)
    piped = run(*command)
    screen = run_on_terminal(*command)
    assert (piped.code, screen.code) == (0, 0)
    assert "\x1b[31m" not in screen.sent
    assert "\x1b[2J" not in screen.sent
    assert "\x07" not in screen.sent


def test_a_name_with_control_characters_is_escaped_in_a_message(tmp_path: Path) -> None:
    found = run("classify", tmp_path / f"{EVIL}.png")
    assert found.code in {1, 2}
    assert "\\x1b[31mred" in found.err
    assert all(line.isprintable() for line in found.err.splitlines())
