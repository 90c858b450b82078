"""Failed inputs and notes: one bad file never ends a batch. Loads no torch."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from dlkit.core.environment import shows_traces
from dlkit.core.errors import outside_cause
from dlkit.core.progress import log

T = TypeVar("T")
R = TypeVar("R")
MAX_SHOWN = 3  # places of a note that the terminal names


@dataclass(frozen=True)
class Failure:
    """The result of an input that failed.

    Created while an error is handled, it keeps that error's trace for DLKIT_DEBUG; `trace` is not
    part of the result's record.
    """

    path: str
    error: str
    trace: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if shows_traces() and sys.exc_info()[0] is not None:
            import traceback

            object.__setattr__(self, "trace", traceback.format_exc())


_notes: dict[str, tuple[list[str], set[int]]] = {}  # first places, and hashes of all of them
_lock = threading.Lock()


def note(kind: str, place: str) -> None:
    """Note how an input was read where that is not self-evident, for `report_notes`.

    Each place counts once, however often it is read; threads may call this.
    """
    with _lock:
        places, seen = _notes.setdefault(kind, ([], set()))
        if len(places) < MAX_SHOWN and hash(place) not in seen:
            places.append(place)
        seen.add(hash(place))


def drop_notes() -> dict[str, tuple[list[str], set[int]]]:
    """The notes since the last call, which are forgotten."""
    with _lock:
        notes = dict(_notes)
        _notes.clear()
    return notes


def report_notes() -> None:
    """Print a line for each kind of note since the last call, with the number of places."""
    notes = drop_notes()
    for kind, (places, seen) in notes.items():
        more = f" and {len(seen) - len(places)} more" if len(seen) > len(places) else ""
        log(f"note: {len(seen)} x {kind}: {', '.join(places)}{more}")


def each(work: Callable[[str], R], paths: Iterable[str], workers: int) -> Iterator[R | Failure]:
    """Yield `work(path)` for each path, in order; a Failure where it raised a DlkitError.

    Files that cannot be read and memory that does not suffice are failures of the input, too.

    Results are computed ahead in threads. `io.writers.write` prints the failures.
    """

    def attempt(path: str) -> R | Failure:
        try:
            return work(path)
        except Exception as error:
            known = outside_cause(error)
            if known is None:
                raise
            return Failure(path, known.reason_for(path))

    if workers == 0:
        yield from map(attempt, paths)
        return
    from concurrent.futures import ThreadPoolExecutor  # not for commands without threads

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
