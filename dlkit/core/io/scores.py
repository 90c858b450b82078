"""The scores that `evaluate` prints in every task. Loads no numpy until it is needed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Score:
    """One score: a metric with its definition and its value for a class, or for `all`."""

    metric: str
    label: str
    value: float | None
    definition: str


def label_rows(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """A row for each label, with a column for each metric; None where there is no score."""
    found = list(scores)
    metrics = dict.fromkeys(score.metric for score in found)
    table: dict[str, dict[str, Any]] = {}
    for score in found:
        row = table.setdefault(score.label, {"label": score.label, **dict.fromkeys(metrics)})
        row[score.metric] = score.value
    return list(table.values())


def rounded(value: float) -> float | None:
    """The value with five digits; None if it is not defined on this data."""
    return round(float(value), 5) if math.isfinite(value) else None


def known_mean(values: "np.ndarray") -> float:
    """The mean of the values that are not nan; nan if there are none."""
    import numpy as np

    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
