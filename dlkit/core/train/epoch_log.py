"""The record of an epoch in log.jsonl, and its line on the terminal. Loads no torch.

A record has the fields `epoch`, `loss` (on the training data, mean over the steps), `val_loss` (on
the validation data, where it is computed), each metric under its own name, `lr` and `seconds`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dlkit.core.progress import duration

# Names that no metric may have; `score` was a field of the records of dlkit 0.2.
FIELDS = frozenset({"epoch", "loss", "lr", "seconds", "score"})


@dataclass(frozen=True)
class BestMetric:
    """The metric that selects best.safetensors, and whether lower values are better."""

    name: str
    lower: bool = False

    def rank(self, value: float) -> float:
        """A number that is higher where the metric is better; of an undefined one, -inf."""
        if math.isnan(value):
            return -math.inf
        return -value if self.lower else value

    def value(self, rank: float) -> float:
        """The metric's value with that rank."""
        return -rank if self.lower else rank


def make_record(
    epoch: int, loss: float, metrics: Mapping[str, float], lr: float, seconds: float
) -> dict[str, float]:
    """The record of an epoch. Raises ValueError for a metric with the name of a field."""
    if taken := FIELDS & metrics.keys():
        raise ValueError(f"metrics with the names of fields of the record: {sorted(taken)}")
    validated = {name: metrics[name] for name in metrics if name == "val_loss"}
    numbers = {"epoch": epoch, "loss": loss, **validated, **metrics}
    return {**numbers, "lr": lr, "seconds": round(seconds, 2)}


def epoch_line(
    record: Mapping[str, float], epochs: int, best: BestMetric | None, better: bool
) -> str:
    """The line of an epoch: both losses, the metric that selects the best one, the time."""
    named = ["loss", "val_loss", *([best.name] if best else [])]
    parts = [f"epoch {record['epoch']}/{epochs}"]
    for name in dict.fromkeys(name for name in named if name in record):
        mark = " (best)" if better and best and name == best.name else ""
        parts.append(f"{name} {record[name]:.4f}{mark}")
    return "  ".join([*parts, duration(record["seconds"])])
