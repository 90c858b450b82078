"""What `evaluate` prints, in every task."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One number; `label` is the class it is of, or `all`; the definition says what it means."""

    metric: str
    label: str
    value: float | None
    definition: str


def rounded(value: float) -> float | None:
    """Five digits; None for a metric that is not defined on this data."""
    return round(float(value), 5) if math.isfinite(value) else None
