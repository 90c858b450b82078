"""The listing of `dlkit models` and `dlkit TASK models`, and cards. Loads no torch."""

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import streams
from dlkit.core.io.files import is_file
from dlkit.core.io.tables import GAP, Table, cells, terminal_console
from dlkit.core.io.views import shows_table
from dlkit.core.io.writers import Format, write
from dlkit.core.progress import printable
from dlkit.core.store.checkpoint import Header, read_header
from dlkit.core.store.weights import SUFFIXES, bundled, cached

MAX_LISTED_LABELS = 12
TO_FETCH = "downloaded on first use"
# Data sets by which models to download are named, as in resnet18-imagenet.
DATA_SETS = {
    "imagenet": "1000 labels of ImageNet",
    "coco": "objects of COCO",
    "voc": "20 classes of Pascal VOC",
}
TEXTS, SIZE = (1, 2, 3), 4  # columns of the table: those of text, and the size


@dataclass(frozen=True)
class Model:
    """A model in the listing; the scores and data are those of the file's header."""

    task: str
    name: str
    place: str
    arch: str
    labels: str
    score: str
    data: str
    megabytes: float
    path: str


@dataclass(frozen=True)
class Card:
    """All that is known about a model: its header's card, labels and scores."""

    task: str
    name: str
    place: str  # bundled, cached, downloaded on first use, or a file
    default: bool
    path: str
    megabytes: float = 0.0
    arch: str = ""
    knows: str = ""
    limits: str = ""
    score: str = ""
    definition: str = ""
    measure: str = ""
    data: str = ""
    terms: str = ""
    license: str = ""
    command: str = ""
    dlkit: str = ""
    labels: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """One row, with the labels and the metrics as text."""
        known = {name: value for name, value in self.metrics.items() if value is not None}
        metrics = ", ".join(f"{name} {value:g}" for name, value in known.items())
        return [{**asdict(self), "labels": ", ".join(self.labels), "metrics": metrics}]

    def line(self) -> Model:
        """The model's line in the listing."""
        many = len(self.labels) > MAX_LISTED_LABELS
        labels = f"{len(self.labels)} labels" if many else ",".join(self.labels)
        return Model(
            self.task, self.name, self.place, self.arch, labels, self.score, self.data,
            self.megabytes, self.path,
        )  # fmt: skip


@dataclass(frozen=True)
class Catalog:
    """The models of some tasks: `published` has names and URLs, `defaults` the default models."""

    published: Mapping[str, Mapping[str, str]]
    defaults: Mapping[str, str]

    def cards(self) -> Iterator[Card | Failure]:
        """The models of each task: bundled, cached, and those that can be downloaded by name."""
        for task, urls in self.published.items():
            files = dict.fromkeys(bundled(task), "bundled")
            files |= dict.fromkeys(cached(task), "cached")
            yield from (self.card(path, place, task) for path, place in files.items())
            local = {path.stem for path in files}
            for name, url in urls.items():
                if name not in local:
                    knows = DATA_SETS.get(name.rpartition("-")[2], "")
                    yield Card(task, name, TO_FETCH, False, url, knows=knows)

    def card(self, path: Path, place: str, task: str = "") -> Card | Failure:
        """The card of a file; a Failure if its header cannot be read."""
        try:
            header = read_header(path)
        except DlkitError as error:
            return Failure(str(path), error.reason_for(path))
        name, default = path.stem, False
        if place != "file":
            default = self.defaults.get(task) == name
        return Card(task or header.task, name, place, default, str(path), **described(header, path))

    def find(self, name: str) -> list[Card | Failure]:
        """The cards of all models of this name, or of a file. Raises DlkitError without any."""
        if name.endswith(SUFFIXES):
            path = Path(name)
            if not is_file(path):
                raise DlkitError("no such model file", name)
            card = self.card(path, "file")
            if isinstance(card, Card) and card.task not in self.published:
                raise DlkitError(f"a model for `dlkit {card.task}`", name)
            return [card]
        known = list(self.cards())
        found = [card for card in known if stem(card) == name]
        if not found:
            names = [*self.published, *map(stem, known)]
            near = difflib.get_close_matches(name, names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`dlkit models` lists all"
            raise DlkitError(f"no model {name!r}; {hint}")
        return found


def stem(card: Card | Failure) -> str:
    """The name of a model."""
    return card.name if isinstance(card, Card) else Path(card.path).stem


def described(header: Header, path: Path) -> dict[str, Any]:
    """The fields of a card that the header of a file has."""
    card = header.card
    own = {"knows", "limits", "score", "definition", "measure", "terms", "license", "command"}
    return {
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "arch": header.arch,
        **{name: text for name, text in card.items() if name in own},
        "data": card.get("data", str(header.config.get("data", ""))),
        "dlkit": header.dlkit,
        "labels": header.labels,
        "metrics": header.metrics,
    }


def show(catalog: Catalog, name: str | None, format: str, output: Path | None) -> None:
    """Print the listing, or the cards of the models of a name or of a file."""
    text = format == Format.text
    if name is not None:
        write(catalog.find(name), format, output, write_cards if text else None)
    elif text and output is None and shows_table(streams.stdout()):
        write(catalog.cards(), writer=write_listing)
    else:
        cards = catalog.cards()
        write((c.line() if isinstance(c, Card) else c for c in cards), format, output)


# ---- Text ----------------------------------------------------------------------------------------


def write_cards(cards: Iterable[Card | Failure], file: TextIO) -> None:
    """Write each card as lines `key: value`; on a terminal with wrapped values."""
    table = Table(terminal_console(file)) if shows_table(file) else None
    for number, card in enumerate(card for card in cards if isinstance(card, Card)):
        (row,) = card.rows()
        values = {name: str(value) for name, value in row.items() if value not in ("", 0.0)}
        if number:
            print(file=file)
        if table is None:
            for name, value in values.items():
                print(f"{name}: {value}", file=file)
        else:
            print_card(values, table)


def print_card(values: Mapping[str, str], table: Table) -> None:
    """Print names and values in two columns."""
    first = max(map(len, values)) + len(GAP)
    width = max(table.console.width - first, 20)
    for name, value in values.items():
        lines = wrapped(printable(value), width)
        table.print_styled((name.ljust(first), "bold"), (lines[0], ""))
        for line in lines[1:]:
            table.print_line(" " * first + line)


def write_listing(cards: Iterable[Card | Failure], file: TextIO) -> None:
    """Print a table of the models of each task, and the names of those to download."""
    table = Table(terminal_console(file))
    known = [card for card in cards if isinstance(card, Card)]
    for number, (task, group) in enumerate(groupby(known, key=lambda card: card.task)):
        if number:
            table.print_line("")
        models = list(group)
        print_models(task, [card for card in models if card.place != TO_FETCH], table)
        to_fetch = [card for card in models if card.place == TO_FETCH]
        for knows in dict.fromkeys(card.knows for card in to_fetch):
            names = ", ".join(card.name for card in to_fetch if card.knows == knows)
            start = f"can be fetched ({knows}): " if knows else "can be fetched: "
            for line in wrapped(start + names, table.console.width - 2):
                table.print_line(f"  {line}", "dim")
    table.print_line("")
    for line in wrapped("* default; dlkit models NAME: its card", table.console.width):
        table.print_line(line, "dim")


def print_models(task: str, models: Sequence[Card], table: Table) -> None:
    """Print a table of models with a header, each cell wrapped in its column."""
    header = [task, "knows", "score", "license", "MB", ""]
    lines = [
        [
            f"  {card.name}{' *' if card.default else ''}",
            card.knows or ", ".join(card.labels[:MAX_LISTED_LABELS]),
            card.score.partition(" on ")[0].partition(",")[0],
            card.license or card.terms,
            f"{card.megabytes:.1f}",
            card.place,
        ]
        for card in models
    ]
    columns = [*zip(header, *lines, strict=True)]
    widths = [max(map(cells, column)) for column in columns]
    least = [
        max(cells(word) for cell in column for word in cell.split() or [""]) for column in columns
    ]
    while sum(widths) + len(GAP) * (len(widths) - 1) > table.console.width:
        wide = [number for number in TEXTS if widths[number] > least[number]]
        if not wide:
            break
        widths[max(wide, key=lambda number: widths[number])] -= 1
    if sum(widths) + len(GAP) * (len(widths) - 1) > table.console.width:
        table.print_line(task, "bold")
        for name, knows, *rest, size, place in lines:
            table.print_line(name)
            text = "; ".join(filter(None, [knows, *rest, f"{size} MB", place]))
            for line in wrapped(text, table.console.width - 4):
                table.print_line(f"    {line}")
        return
    for row in (header, *lines):
        parts = [wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, parts))):
            found = [part[number] if number < len(part) else "" for part in parts]
            filled = [
                cell.rjust(width) if column == SIZE else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(found, widths, strict=True))
            ]
            table.print_line(GAP.join(filled).rstrip(), "bold" if row is header else "")


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most this width; one empty line of no text. Spaces at the start are kept."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.lstrip(), width, initial_indent=indent, break_on_hyphens=False, break_long_words=False
    ) or [""]
