"""What `evaluate` prints, in every task."""

import math
from dataclasses import dataclass

import numpy as np


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


def known_mean(values: np.ndarray) -> float:
    """The mean of the values that are defined; nan if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
