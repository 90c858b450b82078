"""`dlkit verify`: some results of a command, computed again and compared. Loads no torch."""

import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.io import provenance
from dlkit.core.parallel.sharding import Record, records

# Options of the first command that are not repeated, and whether a value follows them.
REPLACED = {
    "-o": 1, "--output": 1, "--shard": 1, "-f": 1, "--format": 1,
    "--resume": 0, "--retry-failed": 0, "--force": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Verified:
    """The comparison of one record: the number of its input, and its fields that differ."""

    input: int
    equal: bool
    differences: str


def verify(file: Path, share: float, seed: int) -> Iterator[Verified]:
    """Compute a share of the results in a file again, at least one; yield each comparison.

    The command runs where this one does. Raises DlkitError for a file without a record of its
    command, and where the command fails.
    """
    made_by = provenance.read_beside(file)
    if made_by is None:
        raise DlkitError(f"no {provenance.file_of(file).name} beside it with its command", file)
    known = chosen_records(file, share, seed)
    with tempfile.TemporaryDirectory() as folder:
        numbers, again = Path(folder, "numbers.json"), Path(folder, "again.jsonl")
        numbers.write_text(json.dumps(sorted(known)))
        arguments = [*repeated(made_by.arguments), "-o", str(again), "--only", str(numbers)]
        command = [sys.executable, "-m", "dlkit", *arguments]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        if not again.exists():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise DlkitError(f"its command failed: {' '.join(last)}", file)
        found = [record for record, _ in records(again)]
    if len(found) != len(known):
        raise DlkitError("its inputs are no longer there: fewer of them than results", file)
    for number, record in zip(sorted(known), found, strict=True):
        differences = differing(known[number], record)
        yield Verified(number, not differences, "; ".join(differences))


def chosen_records(file: Path, share: float, seed: int) -> dict[int, Record]:
    """A random share of the records of a file, by the numbers of their inputs."""
    total = sum(1 for _ in records(file))
    if not total:
        raise DlkitError("no results in it", file)
    chosen = set(random.Random(seed).sample(range(total), max(1, round(share * total))))
    found = {}
    for place, (record, _) in enumerate(records(file)):
        if place in chosen:
            found[record.pop("index", place)] = record
    if len(found) < len(chosen):
        raise DlkitError("several results of an input, which cannot be compared", file)
    return found


def repeated(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command without the options for its files and its share of inputs."""
    kept = []
    waiting = iter(arguments)
    for argument in waiting:
        name = argument.partition("=")[0]
        if name in REPLACED:
            if REPLACED[name] and "=" not in argument:
                next(waiting, None)
        else:
            kept.append(argument)
    return kept


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """The places in which two records differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        parts = [differing(one.get(k), other.get(k), f"{name}.{k}" if name else k) for k in keys]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [
            differing(a, b, f"{name}[{k}]") for k, (a, b) in enumerate(zip(one, other, strict=True))
        ]
    else:
        parts = [] if same(one, other) else [[f"{name} {one} and {other}"]]
    return [difference for part in parts for difference in part]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; NaN is equal to itself."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)
