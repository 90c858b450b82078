"""`dlkit docs`: pages in a pipe and on a terminal, and the search in them."""

import io
import re
import tomllib
from pathlib import Path

import pytest

from dlkit.cli import main
from dlkit.core.cli import docs
from dlkit.core.io.streams import Streams
from dlkit.tasks import TASKS
from tests.conftest import loaded_by, one_line, run

ROOT = Path(__file__).parents[3]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(*args: str) -> str:
    """What `dlkit ARGS` prints on a terminal."""
    out = Terminal()
    with pytest.raises(SystemExit, match="0"):
        main([*args], Streams(io.StringIO(), out, io.StringIO()))
    return out.getvalue()


@pytest.mark.parametrize("task", TASKS)
def test_a_pipe_gets_the_page_as_it_is(task: str) -> None:
    page = ROOT / "dlkit" / task.replace("-", "_") / "README.md"
    assert run("docs", task).out == page.read_text()


def test_without_a_name_it_is_the_readme() -> None:
    assert run("docs").out == (ROOT / "README.md").read_text() == run("docs", "readme").out
    assert "# On a cluster" in run("docs", "cluster").out
    assert "## Import rule" in run("docs", "core").out


def test_a_wheel_has_a_copy_of_the_readme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["README.md"] == "dlkit/README.md"
    (tmp_path / "README.md").write_text("installed\n")
    monkeypatch.setattr(docs, "PACKAGE", tmp_path)
    assert run("docs").out == "installed\n"


def test_a_terminal_gets_text_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("LINES", "10000")  # no pager
    text = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal("docs", "core"))
    assert "core: what several tasks use" in text
    assert "```" not in text
    assert max(map(len, text.splitlines())) <= 70


def test_comments_move_left_where_a_line_is_too_long() -> None:
    text = "dlkit a      # short\ndlkit detect photo.jpg         # a long comment"
    assert docs.closer_comments(text, 40) == (
        "dlkit a      # short\ndlkit detect photo.jpg  # a long comment"
    )


def test_a_long_page_goes_through_the_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("pydoc.pager", shown.append)
    monkeypatch.setenv("LINES", "40")
    assert on_a_terminal("docs", "core") == ""
    assert "import rule" in shown[0].lower()


def test_a_pipe_loads_neither_rich_nor_torch() -> None:
    assert not loaded_by("docs", "detect") & {"rich", "torch", "pydoc"}


def test_search_names_page_line_and_section() -> None:
    lines = run("docs", "--search", "Kneser-Ney").out.splitlines()
    assert {line.split(":")[0] for line in lines} >= {"lm-generate"}
    for line in lines:
        found = re.fullmatch(r"([a-z-]+):(\d+): \[(.+?)\] (.*)", line)
        assert found is not None
        (path,) = docs.find_pages(TASKS, found[1]).values()
        text = path.read_text().splitlines()
        assert text[int(found[2]) - 1].strip() == found[4]
        assert any(above.lstrip("# ") == found[3] for above in text[: int(found[2])])


def test_search_of_one_page_ignores_case() -> None:
    lines = run("docs", "embed", "--search", "KING").out.splitlines()
    assert lines
    assert all(line.startswith("embed:") for line in lines)


def test_nothing_found_is_1_and_an_unknown_page_2() -> None:
    nothing = run("docs", "--search", "qwertz")
    assert (nothing.code, nothing.out) == (1, "")
    assert nothing.err == "dlkit: nothing found about 'qwertz'\n"
    one_line(run("docs", "paint"), "'paint'", "style-transfer", "cluster")
