"""A corpus, as texts or as files (see core/io/text.py), in blocks of whole lines."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TypeVar

from dlkit.core.io import text as reading
from dlkit.core.progress import Bar

T = TypeVar("T")
R = TypeVar("R")


def text_blocks(corpus: Iterable[str | Path], errors: str) -> Iterator[bytes]:
    """The corpus as bytes, in blocks of whole lines; with a progress bar for files."""
    texts: list[bytes] = []
    held = 0
    paths: list[str] = []
    for item in corpus:
        if isinstance(item, Path):
            paths.append(str(item))
            continue
        texts.append(item.encode("utf-8", "replace"))
        held += len(texts[-1])
        if held >= reading.BLOCK:
            yield b"\n".join(texts) + b"\n"
            texts, held = [], 0
    if texts:
        yield b"\n".join(texts) + b"\n"
    sources = reading.files(paths)
    bar = Bar("reading", reading.size(sources), unit="bytes")
    try:
        for source in sources:
            yield from reading.blocks(
                source, errors, lambda read: bar.advance(by=read), keep_mark=True
            )
    finally:
        bar.close()


def map_ahead(
    pool: Executor,
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    flush: Callable[[], bool] = lambda: False,
) -> Iterator[R]:
    """Yield `work(item)` in order, computed a few items ahead; none if `flush` returns True."""
    ahead: deque[Future[R]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        while ahead and (len(ahead) > workers + 1 or flush()):
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()
