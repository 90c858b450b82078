"""Printing texts while they are generated. Loads no torch."""

from collections.abc import Iterable
from typing import TextIO

from dlkit.core.failures import Failure
from dlkit.lm_generate.infer import StreamedText
from dlkit.lm_generate.results import Continuation, one_line

RULE = "-" * 20


def write_one(results: Iterable[StreamedText | Failure], file: TextIO) -> None:
    """Write a prompt and its continuation, piece by piece."""
    for result in results:
        if isinstance(result, StreamedText):
            write_whole(result, file)


def write_many(results: Iterable[StreamedText | Continuation | Failure], file: TextIO) -> None:
    r"""Write a line for each text, line breaks as \n; on a terminal unescaped, with rules."""
    for number, result in enumerate(results):
        if file.isatty() and number:
            file.write(RULE + "\n")
        if isinstance(result, Failure):
            continue
        if file.isatty() and isinstance(result, StreamedText):
            write_whole(result, file)
            continue
        ended = result.result() if isinstance(result, StreamedText) else result
        text = ended.prompt + ended.text
        file.write((text if file.isatty() else one_line(text)) + "\n")
        file.flush()


def write_whole(text: StreamedText, file: TextIO) -> None:
    """Write the prompt and the pieces of a text, and end the line."""
    file.write(text.prompt)
    file.flush()
    for piece in text:
        file.write(piece)
        file.flush()
    file.write("\n")
    file.flush()
