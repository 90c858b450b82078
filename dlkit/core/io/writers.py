"""Writers of results to stdout or to a file; notices go to stderr (see progress.py).

A result is a dataclass. `json` and `jsonl` print its fields; `csv` and `text` print its `rows()`
if it has that method (one image holds many objects), else its fields. Loads no torch.
"""

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

import typer

from dlkit.core.environment import is_main_process, is_terminal
from dlkit.core.errors import ExitStatus
from dlkit.core.failures import Failure
from dlkit.core.io import provenance, streams
from dlkit.core.io.files import check_free, note_saved, whole_file
from dlkit.core.io.views import PLAIN, View, record, rows, shows_table
from dlkit.core.progress import duration, log, rate, spinner, write_trace

Writer = Callable[[Iterable[Any], TextIO], None]


class Format(StrEnum):
    """The formats in which every task prints results."""

    text = "text"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


@contextmanager
def results_file(output: Path | None) -> Iterator[TextIO]:
    """Stdout, or the file that `--output` names, which appears whole or not at all."""
    if output is None:
        yield streams.results_stream()
        return
    check_free(output)
    with (
        whole_file(output) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file
    provenance.save_beside(output)
    note_saved(output)


def write(
    results: Iterable[Any],
    format: str = Format.text,
    output: Path | None = None,
    writer: Writer | None = None,
    view: View | None = None,
) -> None:
    """Print the results as they come; exit with 1 at the end if any of them is a Failure.

    `writer` replaces that of the format; `view` is how a terminal shows text. Under torchrun every
    process computes results, and the main one prints them.
    """
    counted = CountedResults(results)
    if not is_main_process():
        for _ in counted:
            pass
    else:
        with results_file(output) as file:
            if writer is None and format == Format.text and view is not None:
                write_text(counted, file, view)
            else:
                (writer or WRITERS[format])(counted, file)
            file.flush()
    counted.end()


def prints_table(format: str, output: Path | None) -> bool:
    """Whether `write` prints a table, as on a terminal, with more than a pipe gets."""
    return format == Format.text and output is None and shows_table(streams.stdout())


class CountedResults:
    """Results passed through: each Failure is printed on stderr and counted.

    `seen` and `failed` are those of an earlier part of the same command.
    """

    def __init__(self, results: Iterable[Any], seen: int = 0, failed: int = 0) -> None:
        self.results = results
        self.seen, self.failed = seen, failed
        self.noun = ""
        self.began, self.took, self.new = time.monotonic(), 0.0, 0

    def __iter__(self) -> Iterator[Any]:
        self.began, before = time.monotonic(), self.seen
        for result in self.results:
            spinner.stop()
            self.seen += 1
            self.noun = self.noun or getattr(result, "noun", "")
            if isinstance(result, Failure):
                self.failed += 1
                log(f"dlkit: {result.path}: {result.error}")
                if result.trace:
                    write_trace(result.trace)
            yield result
        self.took, self.new = time.monotonic() - self.began, self.seen - before

    def end(self) -> None:
        """Print how many inputs took how long, on a terminal; exit with 1 if anything failed."""
        if self.noun and self.new and is_terminal(streams.streams().stderr):
            many = f"{self.new} {self.noun}{'s' if self.new > 1 else ''}"
            log(f"{many} in {duration(self.took)} ({rate(self.new / max(self.took, 1e-9))})")
        if self.failed:
            if self.seen > 1:
                log(f"dlkit: {self.failed} of {self.seen} inputs failed")
            raise typer.Exit(ExitStatus.FAILED_INPUTS)


def write_text(results: Iterable[Any], file: TextIO, view: View = PLAIN) -> None:
    """Write a row a line, tab-separated for `cut` and `awk`; a table on a terminal."""
    if shows_table(file):
        from dlkit.core.io.tables import write_table  # not for commands that print none

        write_table(results, file, view)
    else:
        write_rows(results, file)


def write_rows(results: Iterable[Any], file: TextIO) -> None:
    """Write a row a line, tab-separated, everywhere: for a path or another single value."""
    for result in results:
        for row in rows(result):
            line = "\t".join("" if value is None else str(value) for value in row.values())
            print(line.rstrip(), file=file)
        file.flush()


def write_blocks(results: Iterable[Any], file: TextIO) -> None:
    """Write text that comes in blocks of bytes."""
    for block in results:
        if isinstance(block, Failure):
            continue
        if hasattr(file, "buffer"):
            file.buffer.write(block)
            file.buffer.flush()
        else:
            file.write(bytes(block).decode("utf-8", "surrogateescape"))


def write_csv(results: Iterable[Any], file: TextIO) -> None:
    """Write a header, and a line for each row; `columns` is the header of a result without rows."""
    writer: csv.DictWriter[str] | None = None
    for result in results:
        result_rows = rows(result)
        header = next(iter(result_rows), getattr(result, "columns", None))
        if writer is None and header is not None:
            writer = csv.DictWriter(file, header, lineterminator="\n")
            writer.writeheader()
        if writer is not None:
            writer.writerows(result_rows)
        file.flush()


def write_jsonl(results: Iterable[Any], file: TextIO) -> None:
    """Write a record for each input, in order, flushed, so that a pipeline can count them."""
    for result in results:
        print(json.dumps(record(result), ensure_ascii=False), file=file, flush=True)


def write_json(results: Iterable[Any], file: TextIO) -> None:
    """Write one array, with an element a line."""
    separator = "[\n"
    for result in results:
        print(separator + json.dumps(record(result), ensure_ascii=False), end="", file=file)
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]", file=file)


WRITERS: dict[str, Writer] = {
    Format.text: write_text,
    Format.json: write_json,
    Format.jsonl: write_jsonl,
    Format.csv: write_csv,
}
