"""Translations printed as text: one output line for each input line."""

from collections.abc import Iterable
from typing import TextIO

from dlkit.core.failures import Failure
from dlkit.core.io.views import shows_table
from dlkit.core.io.writers import Writer
from dlkit.translate.infer import Hypothesis, LineFailure, Translation, format_links


def line_writer(numbered: bool, scores: bool, alignment: bool) -> Writer:
    """A writer of translations, with tab-separated scores and alignments where asked for.

    A line without a translation becomes an empty line. With `numbered`, for several translations of
    a line, each has a line of its own, which begins with the number of the input line and a tab.
    On a terminal a line with the names of the columns comes first.
    """

    def columns(found: Hypothesis) -> list[str]:
        shown = [found.translation]
        if scores:
            shown.append(f"{found.score:.4f}")
        if alignment:
            shown.append(format_links(found.alignment) or "")
        return shown

    def write_lines(results: Iterable[Translation | Failure], file: TextIO) -> None:
        names = ["line"] * numbered + ["translation"] + ["score"] * scores
        names += ["alignment"] * alignment
        named = len(names) > 1 and shows_table(file)
        number = 0
        for result in results:
            if isinstance(result, Failure) and not isinstance(result, LineFailure):
                continue  # a file that could not be read has no lines
            number += 1
            if named and number == 1:
                file.write("\t".join(names) + "\n")
            found = result.hypotheses if isinstance(result, Translation) else []
            for shown in map(columns, found) if found else [[""]]:
                file.write("\t".join([str(number)] * numbered + shown) + "\n")
            file.flush()

    return write_lines
