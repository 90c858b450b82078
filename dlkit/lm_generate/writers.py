"""How texts are printed, as they grow. Loads no torch."""

from collections.abc import Iterable
from typing import TextIO

from dlkit.core.failures import Failure
from dlkit.lm_generate.infer import Continuation, Writing, one_line

RULE = "-" * 20


def write_one(results: Iterable[Writing | Failure], file: TextIO) -> None:
    """A prompt and what follows, as it comes."""
    for result in results:
        if isinstance(result, Writing):
            write_whole(result, file)


def write_many(results: Iterable[Writing | Continuation | Failure], file: TextIO) -> None:
    r"""A line for each text, its own line breaks as \n; on a terminal as they are, with rules."""
    for number, result in enumerate(results):
        if file.isatty() and number:
            file.write(RULE + "\n")
        if isinstance(result, Failure):
            continue
        if file.isatty() and isinstance(result, Writing):
            write_whole(result, file)
            continue
        ended = result.result() if isinstance(result, Writing) else result
        text = ended.prompt + ended.text
        file.write((text if file.isatty() else one_line(text)) + "\n")
        file.flush()


def write_whole(writing: Writing, file: TextIO) -> None:
    file.write(writing.prompt)
    file.flush()
    for piece in writing:
        file.write(piece)
        file.flush()
    file.write("\n")
    file.flush()
