"""Standard input and output, with errors for closed streams. Loads no torch."""

import io
from typing import Any, TextIO

from dlkit.core.environment import Streams as Streams
from dlkit.core.environment import is_terminal as is_terminal
from dlkit.core.environment import streams as streams
from dlkit.core.environment import use_streams as use_streams
from dlkit.core.errors import DlkitError
from dlkit.core.progress import spinner


def stdin() -> TextIO:
    """Standard input. Raises DlkitError if it is closed."""
    stream = streams().stdin
    if stream is None or stream.closed:
        raise DlkitError("stdin is closed; give files, or lines on stdin")
    if is_terminal(stream):
        spinner.stop()  # the user types
    return stream


def stdout() -> TextIO:
    """Standard output. Raises DlkitError if it is closed."""
    stream = streams().stdout
    if stream is None or stream.closed:
        raise DlkitError("stdout is closed; give -o FILE")
    return stream


def binary(stream: Any) -> Any:
    """The bytes under a text stream."""
    return stream.buffer if hasattr(stream, "buffer") else io.BytesIO(stream.read().encode())
