"""Failed inputs and skipped samples: one bad file never ends a batch. Loads no torch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log

T = TypeVar("T")


R = TypeVar("R")


SHOWN = 3  # skipped samples of a kind that are named on the terminal


@dataclass(frozen=True)
class Failure:
    """What stands in the results for an input that failed."""

    path: str
    error: str


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
