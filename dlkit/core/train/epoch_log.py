"""The record of an epoch in log.jsonl, and its line on the terminal. Loads no torch.

A record has the fields `epoch`, `loss` (on the training data, mean over the steps), `val_loss` (on
the validation data, where it is computed), each metric under its own name, `lr` and `seconds`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlkit.core.progress import duration

# Names that no metric may have; `score` was a field of the records of dlkit 0.2.
FIELDS = frozenset({"epoch", "loss", "lr", "seconds", "score"})
LOSSES = ("val_loss", "loss")  # that decide between epochs with an equal metric


UNKNOWN = -math.inf  # the rank of a number that is not known or not defined


@dataclass(frozen=True)
class BestMetric:
    """The metric that selects best.safetensors, and whether lower values are better.

    `losses_compare` is false where a lower loss is not better: a GAN's.
    """

    name: str
    lower: bool = False
    losses_compare: bool = True

    def rank(self, value: float) -> float:
        """A number that is higher where the metric is better; of an undefined one, -inf."""
        if math.isnan(value):
            return UNKNOWN
        return -value if self.lower else value

    def key(self, record: Mapping[str, float | None]) -> tuple[float, ...]:
        """A key to compare epochs by: the best epoch has the greatest.

        Where the metric is equal or not defined, the lower loss on the validation data is better,
        then that on the training data, then the later epoch.
        """
        ranks = [self.rank(as_float(record.get(self.name)))]
        for loss in LOSSES:
            value = as_float(record.get(loss)) if self.losses_compare else math.nan
            ranks.append(UNKNOWN if math.isnan(value) else -value)
        return (*ranks, as_float(record["epoch"]))

    def decider(self, key: Sequence[float], before: Sequence[float] = ()) -> str:
        """The name of the first number that differs between two keys, or that a key has."""
        names = (self.name, *LOSSES, "epoch")
        pairs = zip(names, key, before or [UNKNOWN] * len(names), strict=True)
        return next(name for name, rank, other in pairs if rank != other)

    def tie_line(self, record: Mapping[str, float], before: Sequence[float]) -> str:
        """The line about an epoch whose metric is that of the best one before it, or undefined."""
        key = self.key(record)
        by = self.decider(key, before)
        if key[0] == UNKNOWN:
            reason = f"{self.name} is nan: the validation data do not define it; until they do,"
        else:
            reason = f"{self.name} is {record[self.name]:.4f} again:"
        chosen = "the latest" if by == "epoch" else f"the one with the lowest {by}"
        return f"{reason} of such epochs, {chosen} is kept as best"


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
    record: Mapping[str, float], epochs: int, best: BestMetric | None, better_by: str | None = None
) -> str:
    """The line of an epoch: both losses, the metric that selects the best one, the time.

    `better_by` is the name of the number that makes it the best so far.
    """
    named = ["loss", "val_loss", *([best.name] if best else [])]
    parts = [f"epoch {record['epoch']}/{epochs}"]
    for name in dict.fromkeys(name for name in named if name in record):
        parts.append(f"{name} {record[name]:.4f}" + " (best)" * (name == better_by))
    if better_by == "epoch" and best is not None:
        parts[-1] += " (best)"
    return "  ".join([*parts, duration(record["seconds"])])


def as_float(value: float | None) -> float:
    """The value, or nan for None, as which JSON has it."""
    return math.nan if value is None else value
