"""Results as tables on a terminal. Loads no torch; rich is imported when a table is printed.

A result's `rows()` are the lines of the table. Its class may have

    units    {column: unit}, printed in the header: {"x1": "px", "seconds": "s"}
    noun     what an input is called: "image", "line"; the command then ends with their number
             and the time
    nothing  the sentence for a result without rows, if it is not the usual one; None: no sentence
"""

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from dlkit.core import progress
from dlkit.core.failures import Failure
from dlkit.core.io.colors import Color
from dlkit.core.io.scores import Score, label_rows
from dlkit.core.io.views import PLAIN, Row, View, rows
from dlkit.core.progress import printable

WAIT = 0.15  # seconds after a row in which others may come with it
MOST_DECIMALS = 5
GAP = "  "
SHORTEST_TEXT = 8  # cells to which a column of text is cut in a narrow window


@dataclass
class Column:
    """A column of a table: its title, its width in cells, and how its values are printed."""

    name: str
    unit: str = ""
    width: int = 0
    decimals: int = 0
    numeric: bool = True
    colors: Mapping[str, Color] = field(default_factory=dict)  # of the squares before its values

    @property
    def margin(self) -> int:
        """The cells before a value, with its color."""
        return 2 if self.colors else 0

    @property
    def title(self) -> str:
        """The name with the unit, in the field's spelling: `x1 [px]`."""
        name = self.name.replace("_", " ")
        return f"{name} [{self.unit}]" if self.unit else name

    def learn(self, values: Iterable[Any]) -> None:
        """Grow to the width and the decimals of the values."""
        known = [value for value in values if value is not None]
        self.numeric = self.numeric and all(is_number(value) for value in known)
        self.decimals = max([self.decimals, *map(decimals, known)])
        widths = [cells(self.text(value)) + self.margin for value in known]
        self.width = max([self.width, cells(self.title), *widths])

    def text(self, value: Any) -> str:
        """A value as text."""
        if value is None:
            return ""
        if isinstance(value, float) and math.isfinite(value):
            return f"{value:.{self.decimals}f}"
        return printable(str(value))


def is_number(value: Any) -> bool:
    """Whether a value is a number; a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def decimals(value: Any) -> int:
    """The digits after the point that a number needs, up to a limit."""
    if not isinstance(value, float) or not math.isfinite(value):
        return 0
    return len(f"{value:.{MOST_DECIMALS}f}".rstrip("0").partition(".")[2])


def cells(text: str) -> int:
    """The width of text on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shorten(text: str, width: int) -> str:
    """The text cut to `width` cells, with an ellipsis in its middle."""
    if cells(text) <= width:
        return text
    from rich.cells import set_cell_size

    keep = max(width - 1, 1)
    front = keep // 2
    reversed_end = set_cell_size(text[::-1], keep - front).rstrip()
    return set_cell_size(text, front) + "…" + reversed_end[::-1]


@dataclass
class Table:
    """A table that is printed as its rows come."""

    console: Any
    view: View = PLAIN
    columns: list[Column] = field(default_factory=list)
    previous: str = ""  # the first cell of the row above

    @property
    def width(self) -> int:
        """The cells of a row."""
        return sum(c.width for c in self.columns) + len(GAP) * (len(self.columns) - 1)

    def print(self, lines: Sequence[Row | str], units: Mapping[str, str]) -> None:
        """Print rows, the header first and again where the columns change; sentences on stderr."""
        self.learn(lines)
        for line in lines:
            if isinstance(line, str):
                progress.log(line)
                continue
            if [column.name for column in self.columns] != list(line):
                if self.columns:
                    self.print_line("")
                self.columns = [
                    Column(name, units.get(name, ""), colors=self.colors_of(name)) for name in line
                ]
                self.previous = ""
                self.learn(lines)
                if not self.is_stacked:
                    self.print_header()
            if self.is_stacked:
                self.print_stacked(line)
            else:
                self.print_row(line)

    def learn(self, lines: Sequence[Row | str]) -> None:
        """Widen the columns for the rows that have them, as far as the window allows."""
        names = [column.name for column in self.columns]
        fitting = [line for line in lines if not isinstance(line, str) and list(line) == names]
        for column in self.columns:
            column.learn(row[column.name] for row in fitting)
        self.fit()

    def colors_of(self, name: str) -> Mapping[str, Color]:
        """The colors of a column's values; none where the terminal shows no colors."""
        has_colors = self.console.color_system is not None and not self.console.no_color
        return self.view.colors if name == "label" and has_colors else {}

    @property
    def is_stacked(self) -> bool:
        """Whether the window is too narrow for the columns."""
        return self.width > int(self.console.width)

    def fit(self) -> None:
        """Narrow the widest columns of text until a row fits into the window."""
        texts = [column for column in self.columns if not column.numeric]
        while texts and self.width > self.console.width:
            widest = max(texts, key=lambda column: column.width)
            least = max(SHORTEST_TEXT, cells(widest.title))
            if widest.width <= least:
                return
            excess = self.width - self.console.width
            others = [column.width for column in texts if column is not widest]
            widest.width = max(least, min(widest.width - 1, max([*others, widest.width - excess])))

    def print_header(self) -> None:
        """Print the titles."""
        titles = (
            c.title.rjust(c.width) if c.numeric else c.title.ljust(c.width) for c in self.columns
        )
        self.print_line(GAP.join(titles).rstrip(), "bold")

    def print_row(self, row: Row) -> None:
        """Print one row; a path that is that of the row above is dim."""
        from rich.text import Text

        line = Text()
        for number, column in enumerate(self.columns):
            value = row[column.name]
            text = shorten(column.text(value), column.width - column.margin)
            blank = " " * (column.width - column.margin - cells(text))
            line.append(GAP if number else "")
            line.append(blank if column.numeric else "")
            if column.margin:
                red, green, blue = column.colors.get(value, (128, 128, 128))
                line.append("■ ", f"rgb({red},{green},{blue})")
            line.append(text, self.style(column, text))
            line.append("" if column.numeric else blank)
        line.rstrip()
        self.print_line(line)
        first = self.columns[0]
        self.previous = "" if first.numeric else first.text(row[first.name])

    def print_stacked(self, row: Row) -> None:
        """Print one row as a line for each value, in a window too narrow for a table."""
        vector = [column for column in self.columns if column.name.isdigit()]
        for column in self.columns:
            if column not in vector:
                self.print_line(f"{column.title}: {column.text(row[column.name])}")
        if vector:
            self.print_vector([row[column.name] for column in vector])
        self.print_line("")

    def print_vector(self, numbers: Sequence[float]) -> None:
        """Print the numbers of a vector side by side, as many as fit into a line."""
        texts = [f"{number:.{MOST_DECIMALS}f}" for number in numbers]
        width = max(map(len, texts))
        count = max(1, (self.console.width + len(GAP)) // (width + len(GAP)))
        self.print_line(f"{len(texts)} numbers:")
        for start in range(0, len(texts), count):
            line = texts[start : start + count]
            self.print_line(GAP.join(text.rjust(width) for text in line))

    def style(self, column: Column, text: str) -> str:
        """The style of a value: dim for a path repeated from the row above."""
        is_first = column is self.columns[0] and len(self.columns) > 1
        return "dim" if is_first and text == shorten(self.previous, column.width) else ""

    def print_styled(self, *parts: tuple[str, str]) -> None:
        """Print a line of parts with a style each."""
        from rich.text import Text

        self.print_line(Text.assemble(*parts))

    def print_line(self, line: Any, style: str = "") -> None:
        """Print one line as it is."""
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def terminal_console(file: TextIO) -> Any:
    """The console for results: that of a progress bar on the same terminal, or a new one."""
    drawn = progress.Bar.drawn
    return drawn[-1].progress.console if drawn and drawn[-1].shared else progress.console(file)


class TableWriter:
    """Prints the rows of results shortly after they come, so that those of a batch set the widths.

    A timer prints the rows that wait, because the next result may take long.
    """

    def __init__(self, file: TextIO, view: View) -> None:
        self.file = file
        self.table = Table(terminal_console(file), view)
        self.waiting: list[Row | str] = []
        self.units: dict[str, str] = {}
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def add(self, result: Any) -> None:
        """Add the rows of a result; a sentence for one that has none."""
        own = rows(result)
        with self.lock:
            self.units |= getattr(result, "units", {})
            self.waiting += own or empty_sentence(result)
            full = len(self.waiting) >= self.table.console.height - 2
            if not full and self.timer is None:
                self.timer = threading.Timer(WAIT, self.flush)
                self.timer.daemon = True
                self.timer.start()
        if full:
            self.flush()

    def flush(self) -> None:
        """Print the rows that wait."""
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            if self.waiting:
                self.table.console = terminal_console(self.file)
                self.table.print(self.waiting, self.units)
                self.file.flush()
                self.waiting = []


def write_table(results: Iterable[Any], file: TextIO, view: View = PLAIN) -> None:
    """Print results as one table over all inputs, in which rows appear as they come.

    The widths of the columns are those of the first screenful; later rows may widen them. Scores
    are printed together at the end.
    """
    writer = TableWriter(file, view)
    scores: list[Score] = []
    try:
        for result in results:
            if isinstance(result, Score):
                scores.append(result)
            elif not isinstance(result, Failure):
                writer.add(result)
    finally:
        writer.flush()
    if scores:
        print_scores(scores, Table(terminal_console(file), view))


def empty_sentence(result: Any) -> list[str]:
    """The sentence for a result without rows; none for one of many frames."""
    sentence = getattr(result, "nothing", "")
    return [] if sentence is None else [sentence or f"nothing found in {result.path}"]


# ---- Scores --------------------------------------------------------------------------------------


def print_scores(scores: Sequence[Score], table: Table) -> None:
    """Print a table of labels by metrics and its definitions, then the scores of all, main last."""
    single = [score for score in scores if score.label != "all"]
    names = [score.metric for score in scores]
    main = next((name for name in table.view.main if name in names), None)
    if single:
        table.print(label_rows(single), {})
        table.print_line("")
        definitions = {score.metric: score.definition for score in single}
        for score in scores:
            if score.label == "all":
                definitions.pop(score.metric, None)
        print_list(table, [(name, "", text) for name, text in definitions.items()], None)
    value = Column("value")
    whole = [score for score in scores if score.label == "all"]
    value.learn(score.value for score in whole)
    whole.sort(key=lambda score: score.metric == main)
    lines = [(score.metric, value.text(score.value) or "-", score.definition) for score in whole]
    if lines and single:
        table.print_line("")
    print_list(table, lines, main)


def print_list(table: Table, lines: Sequence[tuple[str, str, str]], main: str | None) -> None:
    """Print names, values and definitions, wrapped beside them; the main one bold."""
    if not lines:
        return
    import textwrap

    first = max(cells(name) for name, _, _ in lines)
    second = max(len(value) for _, value, _ in lines)
    indent = first + len(GAP) + (second + len(GAP) if second else 0)
    beside = table.console.width - indent >= 30
    for name, value, definition in lines:
        start = name.ljust(first) + (GAP + value.rjust(second) if second else "")
        width = table.console.width - (indent if beside else 4)
        wrapped = textwrap.wrap(definition, max(width, 20), break_on_hyphens=False)
        style = "bold" if name == main else ""
        if beside and wrapped:
            table.print_styled((start, style), (GAP + wrapped.pop(0), "dim"))
        else:
            table.print_line(start, style)
        for text in wrapped:
            table.print_styled((" " * (indent if beside else 4), ""), (text, "dim"))
