"""Writers of results to stdout or to a file; notices go to stderr (see progress.py).

A result is a dataclass. `json` and `jsonl` print its fields; `csv` and `text` print its `rows()`
if it has that method (one image holds many objects), else its fields. Loads no torch.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

import typer

from dlkit.core.environment import is_main_process
from dlkit.core.errors import ExitStatus
from dlkit.core.failures import Failure
from dlkit.core.io import streams
from dlkit.core.io.files import whole_file
from dlkit.core.progress import log

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
        yield streams.stdout()
        return
    with (
        whole_file(output) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def write(
    results: Iterable[Any],
    format: str = Format.text,
    output: Path | None = None,
    writer: Writer | None = None,
) -> None:
    """Print the results as they come; exit with 1 at the end if any of them is a Failure.

    `writer` replaces that of the format. Under torchrun every process computes results, and the
    main one prints them.
    """
    counted = CountedResults(results)
    if not is_main_process():
        for _ in counted:
            pass
    else:
        with results_file(output) as file:
            (writer or WRITERS[format])(counted, file)
            file.flush()
    counted.end()


class CountedResults:
    """Results passed through: each Failure is printed on stderr and counted.

    `seen` and `failed` are those of an earlier part of the same command.
    """

    def __init__(self, results: Iterable[Any], seen: int = 0, failed: int = 0) -> None:
        self.results = results
        self.seen, self.failed = seen, failed

    def __iter__(self) -> Iterator[Any]:
        for result in self.results:
            self.seen += 1
            if isinstance(result, Failure):
                self.failed += 1
                log(f"dlkit: {result.path}: {result.error}")
                if result.trace:
                    log(result.trace)
            yield result

    def end(self) -> None:
        """Exit with 1 if anything failed."""
        if self.failed:
            if self.seen > 1:
                log(f"dlkit: {self.failed} of {self.seen} inputs failed")
            raise typer.Exit(ExitStatus.FAILED_INPUTS)


def rows(result: Any) -> list[dict[str, Any]]:
    """The rows of a result for `text` and `csv`; a Failure has none."""
    if isinstance(result, Failure):
        return []
    return result.rows() if hasattr(result, "rows") else [asdict(result)]


def write_text(results: Iterable[Any], file: TextIO) -> None:
    """Write a row a line, tab-separated for `cut` and `awk`; in columns on a terminal."""
    for result in results:
        lines = [["" if v is None else str(v) for v in row.values()] for row in rows(result)]
        if file.isatty():
            if not lines and not isinstance(result, Failure):
                log(f"{result.path}: nothing found")
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            lines = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in lines]
        separator = "  " if file.isatty() else "\t"
        for line in lines:
            print(separator.join(line).rstrip(), file=file)
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
            file.write(bytes(block).decode())


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
        print(json.dumps(asdict(result), ensure_ascii=False), file=file, flush=True)


def write_json(results: Iterable[Any], file: TextIO) -> None:
    """Write one array, with an element a line."""
    separator = "[\n"
    for result in results:
        print(separator + json.dumps(asdict(result), ensure_ascii=False), end="", file=file)
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]", file=file)


WRITERS: dict[str, Writer] = {
    Format.text: write_text,
    Format.json: write_json,
    Format.jsonl: write_jsonl,
    Format.csv: write_csv,
}
