"""Everything that is not a result: notices and progress, to stderr.

Loads no torch and no rich; the bar is imported when there is a terminal to draw it on.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from dlkit.core.errors import DlkitError

T = TypeVar("T")
R = TypeVar("R")
SHOWN = 3  # skipped samples of a kind that are named on the terminal


@dataclass(frozen=True)
class Failure:
    """What stands in the results for an input that failed."""

    path: str
    error: str


def rank() -> int:
    """The number of this process among those that torchrun or srun started."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def world_size() -> int:
    """How many processes torchrun or srun started.

    SLURM_NTASKS is set in a batch script too, where only one process runs.
    """
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)


def is_main_process() -> bool:
    """Whether this process is the one that speaks, when torchrun or srun started several."""
    return rank() == 0


def log(message: str) -> None:
    """A line on stderr, from the main process only."""
    if is_main_process():
        print(message, file=sys.stderr, flush=True)


def say_failed(why: str) -> None:
    """A line on stderr about what ends this process, whichever it is; of several it names itself.

    It is written in one piece, since several may fail at once.
    """
    which = f"process {rank()}: " if world_size() > 1 else ""
    sys.stderr.write(f"dlkit: {which}{why}\n")
    sys.stderr.flush()


@dataclass
class Skipped:
    """Data left out because something is wrong with it: counted by kind, named by place."""

    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        self.places.setdefault(kind, []).append(where)

    def report(self) -> None:
        for kind, places in self.places.items():
            more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            log(f"skipped {len(places)} x {kind}: {', '.join(places[:SHOWN])}{more}")

    def lines(self) -> list[str]:
        return [f"{kind}\t{place}" for kind, places in self.places.items() for place in places]


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


def each(work: Callable[[str], R], paths: Iterable[str], workers: int) -> Iterator[R | Failure]:
    """`work(path)` for each path, computed ahead in threads, in order; a Failure where it raised.

    One bad input never ends a batch: what it raised (a DlkitError) is said by `output.write`.
    """

    def attempt(path: str) -> R | Failure:
        try:
            return work(path)
        except DlkitError as error:
            return Failure(path, str(error))

    if workers == 0:
        yield from map(attempt, paths)
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Any] = deque()
        try:
            for path in paths:
                ahead.append(pool.submit(attempt, path))
                if len(ahead) >= 16 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
