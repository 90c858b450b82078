"""The rows of results, and their look on a terminal (see tables.py). Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from dlkit.core.environment import Coloring, coloring, is_terminal
from dlkit.core.failures import Failure

if TYPE_CHECKING:
    from dlkit.core.io.colors import Color

Row = dict[str, Any]


@dataclass(frozen=True)
class View:
    """The look of results on a terminal: colors of labels, as in pictures, and the main metric.

    `main` are names of metrics; the first of them that is among the scores is printed last.
    """

    colors: "Mapping[str, Color]" = field(default_factory=dict)
    main: Sequence[str] = ()


PLAIN = View()


def rows(result: Any) -> list[Row]:
    """The rows of a result for `text` and `csv`; a Failure has none."""
    if isinstance(result, Failure):
        return []
    own = result.rows() if hasattr(result, "rows") else [asdict(result)]
    carried = getattr(result, "carried", {})
    return [{**carried, **row} for row in own] if carried else own


def record(result: Any) -> Row:
    """The fields of a result, after those that are carried from its row of a table."""
    return {**getattr(result, "carried", {}), **asdict(result)}


def shows_table(file: TextIO) -> bool:
    """Whether results are printed as a table: on a terminal, or with `--color always`."""
    return is_terminal(file) or coloring() == Coloring.always
