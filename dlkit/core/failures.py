"""Failed inputs and notes: one bad file never ends a batch. Loads no torch."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from dlkit.core.environment import shows_traces, stdin_pauses
from dlkit.core.errors import outside_cause
from dlkit.core.progress import log

T = TypeVar("T")
R = TypeVar("R")
AHEAD_BYTES = 256_000_000  # of results that are computed ahead, at most, but for one a thread
WINDOW_BYTES = 192_000_000  # of pictures that are grouped into batches
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


class Ahead(Generic[R]):
    """An iterator over results that threads compute ahead of their use, in the order of the inputs.

    They are computed up to 16 inputs a thread ahead, and while those that wait have less than
    AHEAD_BYTES in all. Results that are done do not wait for an input that has not arrived.
    """

    def __init__(self, work: Callable[[str], R], paths: Iterable[str], workers: int) -> None:
        self.pending = Pending(work, paths)
        self.results = self.pending.compute(workers)

    def __iter__(self) -> Iterator[R | Failure]:
        return self

    def __next__(self) -> R | Failure:
        return next(self.results)

    def pauses(self) -> bool:
        """Whether the next result needs an input of stdin that has not arrived."""
        return not self.pending.waiting and self.pending.pauses()


class Pending(Generic[R]):
    """The inputs of `Ahead`, and the results that wait to be used.

    It does not hold the iterator, which ends the threads when it is dropped.
    """

    def __init__(self, work: Callable[[str], R], paths: Iterable[str]) -> None:
        self.work, self.paths = work, iter(paths)
        self.listed = isinstance(paths, Sized)  # not read from stdin
        self.waiting: deque[Any] = deque()
        self.changed = threading.Condition()
        self.held = self.begun = self.taken = 0  # bytes that wait; numbers of inputs
        self.closed = False

    def pauses(self) -> bool:
        """Whether the next input is one of stdin that has not arrived."""
        return not self.listed and stdin_pauses()

    def attempt(self, path: str) -> R | Failure:
        """The result of one input."""
        try:
            return self.work(path)
        except Exception as error:
            known = outside_cause(error)
            if known is None:
                raise
            return Failure(path, known.reason_for(path))

    def attempt_ahead(self, path: str, number: int) -> tuple[R | Failure, int]:
        """The result of input `number` and its bytes, as soon as there is room for it."""
        with self.changed:
            # The result that is needed next never waits for those after it.
            while self.held >= AHEAD_BYTES and number > self.taken and not self.closed:
                self.changed.wait(1)
                self.closed = self.closed or not threading.main_thread().is_alive()
        result = self.attempt(path)
        size = bytes_of(result)
        with self.changed:
            self.held += size
        return result, size

    def take(self) -> R | Failure:
        """The next result; waits until it is computed."""
        result, size = self.waiting.popleft().result()
        with self.changed:
            self.held -= size
            self.taken += 1
            self.changed.notify_all()
        return result  # type: ignore[no-any-return]

    def compute(self, workers: int) -> Iterator[R | Failure]:
        """Yield the results of all inputs."""
        if workers == 0:
            yield from map(self.attempt, self.paths)
            return
        from concurrent.futures import ThreadPoolExecutor  # not for commands without threads

        with ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    full = len(self.waiting) >= 16 * workers
                    if full or (self.waiting and self.pauses()):
                        yield self.take()
                        continue
                    path = next(self.paths, None)
                    if path is None:
                        break
                    self.waiting.append(pool.submit(self.attempt_ahead, path, self.begun))
                    self.begun += 1
                while self.waiting:
                    yield self.take()
            finally:
                with self.changed:
                    self.closed = True
                    self.changed.notify_all()
                pool.shutdown(cancel_futures=True)


def bytes_of(result: Any) -> int:
    """Bytes of the pictures and tensors in a result."""
    if isinstance(result, tuple):
        return sum(map(bytes_of, result))
    size = getattr(result, "nbytes", 0)
    return size if isinstance(size, int) else 0


def each(work: Callable[[str], R], paths: Iterable[str], workers: int) -> Ahead[R]:
    """Yield `work(path)` for each path, in order; a Failure where it raised a DlkitError.

    Files that cannot be read and memory that does not suffice are failures of the input, too.

    Results are computed ahead in threads. `io.writers.write` prints the failures.
    """
    return Ahead(work, paths, workers)


def next_window(entries: Iterator[T], most: int) -> list[T]:
    """The next entries: up to `most` and WINDOW_BYTES, and those that have arrived on stdin."""
    pauses = entries.pauses if isinstance(entries, Ahead) else stdin_pauses
    window: list[T] = []
    size = 0
    while len(window) < most and size < WINDOW_BYTES and not (window and pauses()):
        entry = next(entries, None)
        if entry is None:
            break
        window.append(entry)
        size += bytes_of(entry)
    return window
