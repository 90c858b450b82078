"""Notices and progress bars on stderr.

Loads no torch and no rich; the bar is imported when there is a terminal to draw it on.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Literal, TypeVar

from dlkit.core.environment import is_main_process, is_terminal, rank, streams, world_size

T = TypeVar("T")
NOTE_INTERVAL = 0.3  # seconds between two notes beside a bar


def log(message: str) -> None:
    """Print a line on stderr, from the main process only."""
    if is_main_process():
        write_line(message)


def print_error(reason: str) -> None:
    """Print why this process ends on stderr; under torchrun with the number of the process.

    The line is written in one piece, since several processes may fail at once.
    """
    process = f"process {rank()}: " if world_size() > 1 else ""
    write_line(f"dlkit: {process}{reason}")


def write_line(line: str) -> None:
    """Write a line to stderr at once; nothing where stderr is closed."""
    stderr = streams().stderr
    if stderr is not None and not stderr.closed:
        stderr.write(f"{line}\n")
        stderr.flush()


class Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(
        self, label: str, total: int | None, unit: Literal["items", "bytes"] = "items"
    ) -> None:
        self.progress: Any = None
        self.noted_at = 0.0
        stderr = streams().stderr
        if not (is_terminal(stderr) and is_main_process()):
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
        self.progress = Progress(
            "{task.description}",
            BarColumn(),
            count,
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.progress.start()
        self.task = self.progress.add_task(label, total=total, note="")

    def advance(self, note: Callable[[], str] | None = None, by: int = 1) -> None:
        """Advance by this number of items; `note` is called a few times a second at most."""
        if self.progress is None:
            return
        self.progress.advance(self.task, by)
        now = time.monotonic()
        if note is not None and now - self.noted_at > NOTE_INTERVAL:
            self.noted_at = now
            self.progress.update(self.task, note=note())

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self.progress is not None:
            self.progress.stop()


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, with a progress bar on a terminal."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = Bar(label, total)
    try:
        for item in items:
            yield item
            bar.advance()
    finally:
        bar.close()
