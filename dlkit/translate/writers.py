"""How translations are printed as text: a line for each line, and nothing else."""

from collections.abc import Iterable
from typing import TextIO

from dlkit.core.failures import Failure
from dlkit.core.io.writers import Writer
from dlkit.translate.infer import Hypothesis, LineFailure, Translation, pharaoh


def line_writer(numbered: bool, scores: bool, alignment: bool) -> Writer:
    """Writes bare translations; after a tab each, their scores and alignments where asked for.

    What has no translation is an empty line. When there may be several translations of a line,
    each has a line of its own, which begins with the number of the input line and a tab.
    """

    def columns(found: Hypothesis) -> list[str]:
        shown = [found.translation]
        if scores:
            shown.append(f"{found.score:.4f}")
        if alignment:
            shown.append(pharaoh(found.alignment) or "")
        return shown

    def write_lines(results: Iterable[Translation | Failure], file: TextIO) -> None:
        number = 0
        for result in results:
            if isinstance(result, Failure) and not isinstance(result, LineFailure):
                continue  # a file that could not be read has no lines
            number += 1
            found = result.hypotheses if isinstance(result, Translation) else []
            for shown in map(columns, found) if found else [[""]]:
                file.write("\t".join([str(number)] * numbered + shown) + "\n")
            file.flush()

    return write_lines
