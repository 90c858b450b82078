"""Standard input, output and error as one value, which tests can replace. Loads no torch."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from dlkit.core.errors import DlkitError


@dataclass(frozen=True)
class Streams:
    """The streams of a command; None for one that was closed before dlkit started."""

    stdin: TextIO | None
    stdout: TextIO | None
    stderr: TextIO | None


_replaced: list[Streams] = []


def streams() -> Streams:
    """The streams of this command: the interpreter's own, unless they are replaced."""
    return _replaced[-1] if _replaced else Streams(sys.stdin, sys.stdout, sys.stderr)


@contextmanager
def use_streams(replacement: Streams | None) -> Iterator[None]:
    """Replace the streams within this context; None leaves them."""
    if replacement is None:
        yield
        return
    _replaced.append(replacement)
    try:
        yield
    finally:
        _replaced.pop()


def stdin() -> TextIO:
    """Standard input. Raises DlkitError if it is closed."""
    stream = streams().stdin
    if stream is None or stream.closed:
        raise DlkitError("stdin is closed; give files, or lines on stdin")
    return stream


def stdout() -> TextIO:
    """Standard output. Raises DlkitError if it is closed."""
    stream = streams().stdout
    if stream is None or stream.closed:
        raise DlkitError("stdout is closed; give -o FILE")
    return stream


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is open and a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def binary(stream: Any) -> Any:
    """The bytes under a text stream."""
    return stream.buffer if hasattr(stream, "buffer") else io.BytesIO(stream.read().encode())
