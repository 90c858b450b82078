"""Results on a terminal: tables, their widths, colors, scores; pipes get plain lines."""

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from rich.console import Console

from dlkit.core.failures import Failure
from dlkit.core.io import tables
from dlkit.core.io.scores import Score
from dlkit.core.io.tables import Table, TableWriter, cells, shorten
from dlkit.core.io.views import View
from tests.conftest import run, run_on_terminal, save_stub


@dataclass(frozen=True)
class Found:
    """A result with rows."""

    path: str
    objects: list[tuple[str, float, int]]
    noun: ClassVar = "image"
    units: ClassVar = {"side": "px"}

    def rows(self) -> list[dict[str, Any]]:
        names = ("path", "label", "score", "side")
        return [dict(zip(names, (self.path, *found), strict=True)) for found in self.objects]


CAT = Found("cat.jpg", [("cat", 0.89, 451), ("a very long label", 0.3, 7)])
DOG = Found("a/long/path/to/the/dog.jpg", [("dog", 0.1234, 12)])
EMPTY = Found("wall.jpg", [])


def printed(*results: Any, width: int = 80, view: View = tables.PLAIN, color: bool = False) -> str:
    """The table of the results in a window of that width."""
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        height=20,
        force_terminal=color,
        color_system="truecolor" if color else None,
    )
    writer = TableWriter(file, view)
    writer.table = Table(console, view)
    original = tables.terminal_console
    tables.terminal_console = lambda file: console
    try:
        for result in results:
            writer.add(result)
        writer.flush()
    finally:
        tables.terminal_console = original
    return file.getvalue()


def test_one_table_over_all_inputs() -> None:
    """A header with units; numbers right-aligned with one number of decimals in a column."""
    assert printed(CAT, DOG).splitlines() == [
        "path                        label               score  side [px]",
        "cat.jpg                     cat                0.8900        451",
        "cat.jpg                     a very long label  0.3000          7",
        "a/long/path/to/the/dog.jpg  dog                0.1234         12",
    ]


def test_a_narrow_window_shortens_text_and_never_numbers() -> None:
    lines = printed(CAT, DOG, width=50).splitlines()
    assert max(map(len, lines)) <= 50
    assert lines[3].startswith("a/lo")
    assert "…" in lines[3]
    assert lines[3].split()[-3:] == ["dog", "0.1234", "12"]


def test_a_window_narrower_than_the_numbers_gets_a_line_for_each_value() -> None:
    assert printed(CAT, width=20).splitlines()[:5] == [
        "path: cat.jpg",
        "label: cat",
        "score: 0.89",
        "side [px]: 451",
        "",
    ]


def test_colors_of_labels() -> None:
    """A square of the color in the pictures; none without colors."""
    view = View(colors={"cat": (1, 2, 3), "dog": (200, 100, 50)})
    assert "\x1b[38;2;1;2;3m■ " in printed(CAT, view=view, color=True)
    assert "■" not in printed(CAT, view=view)


@pytest.mark.parametrize("text", ["plain", "日本語のとても長い名前", "naïve café 😀😀😀", "x" * 99])
def test_shorten_fits_the_width_in_cells(text: str) -> None:
    for width in range(3, 40):
        assert cells(shorten(text, width)) <= width
    assert shorten(text, cells(text)) == text


def test_control_characters_of_a_name_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in printed(Found("a\x1b[2Jb.jpg", [("cat", 0.5, 1)]))


def test_not_a_number_and_missing_values() -> None:
    rows = printed(Found("a", [("x", math.nan, 3)]), Found("b", [("y", None, 3)]))  # type: ignore[list-item]
    assert rows.splitlines()[1].split() == ["a", "x", "nan", "3"]
    assert rows.splitlines()[2].split() == ["b", "y", "3"]


def test_rows_are_printed_before_the_next_result_comes() -> None:
    """A result that takes long does not hold back the one before it."""
    file = io.StringIO()
    console = Console(file=file, width=80, height=20, color_system=None)
    seen = []

    def results() -> Iterator[Found]:
        yield CAT
        end = time.monotonic() + 5
        while "cat.jpg" not in file.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
        seen.append("cat.jpg" in file.getvalue())
        yield DOG

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "terminal_console", lambda file: console)
        tables.write_table(results(), file)
    assert seen == [True]
    assert "dog.jpg" in file.getvalue()


SCORES = [
    Score("mean_iou", "all", 0.575, "Mean over classes."),
    Score("pixel_accuracy", "all", 0.88268, "Share of the pixels whose class is right."),
    Score("iou", "sky", 0.9, "Intersection over union."),
    Score("pixels", "sky", 100, "Annotated pixels."),
    Score("iou", "tree", None, "Intersection over union."),
    Score("pixels", "tree", 5, "Annotated pixels."),
]


def test_scores_are_a_table_of_labels_by_metrics_then_definitions_and_the_main_one_last() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, height=20, color_system=None)
    tables.print_scores(SCORES, Table(console, View(main=("bleu", "mean_iou"))))
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [
        "label  iou  pixels",
        "sky    0.9     100",
        "tree             5",
        "",
        "iou     Intersection over union.",
        "pixels  Annotated pixels.",
        "",
        "pixel_accuracy  0.88268  Share of the pixels whose class is right.",
        "mean_iou        0.57500  Mean over classes.",
    ]


# ---- Commands on a terminal ----------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (80 * number, 10, 10)).save(f"in/{number}.png")
    return str(save_stub(Path("stub.safetensors")))


def test_a_command_ends_with_the_number_of_inputs_and_the_time(pictures: str) -> None:
    done = run_on_terminal("classify", "in", "-m", pictures, "--save", "out")
    assert done.code == 0
    header, *rows = done.lines
    assert header.split() == ["path", "label", "score"]
    assert [row.split()[0] for row in rows[:3]] == [f"in/{number}.png" for number in range(3)]
    assert rows[3].startswith("3 images in ")
    assert rows[4] == "saved 3 files in out"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_pipe_gets_the_same_whatever_the_terminal(pictures: str, columns: int) -> None:
    """stdout has tabs and no header; --color never and NO_COLOR print no escape sequence."""
    piped = run("classify", "in", "-m", pictures)
    assert all(line.count("\t") == 2 for line in piped.out.splitlines())
    shown = run_on_terminal("classify", "in", "-m", pictures, columns=columns)
    assert [line.replace("■", "").split() for line in shown.lines[1:4]] == [
        line.split("\t") for line in piped.out.splitlines()
    ]
    for plain in (
        run_on_terminal("classify", "in", "-m", pictures, "--color", "never", "--workers", "0"),
        run_on_terminal("classify", "in", "-m", pictures, NO_COLOR="1"),
        run_on_terminal("classify", "in", "-m", pictures, TERM="dumb"),
    ):
        rows = [line.replace("■ ", "").split() for line in shown.lines[:4]]
        assert [line.split() for line in plain.lines[:4]] == rows
        assert "\x1b[3" not in plain.sent


def test_color_always_prints_the_table_in_a_pipe(pictures: str) -> None:
    done = run("classify", "in", "-m", pictures, "--color", "always")
    assert "\x1b[1m" in done.out
    assert "path" in done.out.splitlines()[0]


def test_failures_are_between_the_rows(pictures: str) -> None:
    Path("in/1.png").write_bytes(b"broken")
    done = run_on_terminal("classify", "in", "-m", pictures)
    assert done.code == 1
    assert any(line.startswith("dlkit: in/1.png: ") for line in done.lines)
    assert done.lines[-1] == "dlkit: 1 of 3 inputs failed"


def test_a_failure_is_no_row() -> None:
    file = io.StringIO()
    tables.write_table([Failure("a", "bad")], file)
    assert file.getvalue() == ""
