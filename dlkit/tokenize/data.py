"""A corpus, as texts or as files (see core/io/text.py), in blocks of whole lines."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from dlkit.core.io import text as reading
from dlkit.core.progress import Bar


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
            yield from reading.blocks(source, errors, lambda read: bar.advance(by=read))
    finally:
        bar.close()
