"""Standard input and output, with errors for closed streams. Loads no torch."""

import io
from typing import Any, TextIO, cast

from dlkit.core.environment import Streams as Streams
from dlkit.core.environment import is_terminal as is_terminal
from dlkit.core.environment import streams as streams
from dlkit.core.environment import use_streams as use_streams
from dlkit.core.errors import DlkitError
from dlkit.core.progress import printable, spinner


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


def results_stream() -> TextIO:
    """Standard output for results, of which the text may be anything.

    On a terminal its control characters are escaped; a pipe and a file get the bytes as they are.
    """
    stream = stdout()
    return cast(TextIO, Terminal(stream)) if is_terminal(stream) else stream


class Terminal(io.TextIOBase):
    """A terminal on which the text of results cannot move the cursor or change colors.

    `stream` is the terminal itself, for tables that draw with control characters.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text; its lines and tabs stay."""
        if not text.isprintable():
            lines = (map(printable, line.split("\t")) for line in text.split("\n"))
            text = "\n".join("\t".join(parts) for parts in lines)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()


def drawable(stream: Any) -> Any:
    """The stream itself under a Terminal, for text with colors of dlkit's own."""
    return stream.stream if isinstance(stream, Terminal) else stream


def binary(stream: Any) -> Any:
    """The bytes under a text stream."""
    return stream.buffer if hasattr(stream, "buffer") else io.BytesIO(stream.read().encode())
