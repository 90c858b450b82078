"""Notices and progress bars on stderr.

Loads no torch and no rich; the bar is imported when there is a terminal to draw it on.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Literal, TypeVar

from dlkit.core.environment import is_main_process, rank, world_size

T = TypeVar("T")


def log(message: str) -> None:
    """A line on stderr, from the main process only."""
    if is_main_process():
        print(message, file=sys.stderr, flush=True)


def print_error(why: str) -> None:
    """A line on stderr about what ends this process, whichever it is; of several it names itself.

    It is written in one piece, since several may fail at once.
    """
    which = f"process {rank()}: " if world_size() > 1 else ""
    sys.stderr.write(f"dlkit: {which}{why}\n")
    sys.stderr.flush()


class Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(
        self, label: str, total: int | None, unit: Literal["items", "bytes"] = "items"
    ) -> None:
        self.progress: Any = None
        self.shown_at = 0.0
        if not (sys.stderr.isatty() and is_main_process()):
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
        """`by` more done; `note` is called a few times a second at most, since it may be slow."""
        if self.progress is None:
            return
        self.progress.advance(self.task, by)
        now = time.monotonic()
        if note is not None and now - self.shown_at > 0.3:
            self.shown_at = now
            self.progress.update(self.task, note=note())

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """The items, with a progress bar on a terminal."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = Bar(label, total)
    try:
        for item in items:
            yield item
            bar.advance()
    finally:
        bar.close()
