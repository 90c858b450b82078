"""`dlkit merge`: the files of several shards as one, in the order of the inputs. Loads no torch."""

import heapq
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import typer

from dlkit.core.errors import DlkitError
from dlkit.core.io.writers import results_file
from dlkit.core.parallel.sharding import Record, records
from dlkit.core.progress import log

NAME = re.compile(r".*\.(\d{5,})-of-(\d{5,})(\.[^.]*)?")
SHOWN = 3  # numbers of inputs that are named


@dataclass(frozen=True)
class ShardFile:
    """A file of results; its name says which shard of how many it is, unless it was renamed."""

    path: Path
    index: int | None = None
    count: int | None = None

    @staticmethod
    def of(path: Path) -> "ShardFile":
        match = NAME.fullmatch(path.name)
        return ShardFile(path, int(match[1]), int(match[2])) if match else ShardFile(path)

    def records(self) -> Iterator[tuple[int, Record]]:
        """The records with their inputs' numbers, which rise. Raises DlkitError for other files."""
        last, end = -1, 0
        for line, (record, place) in enumerate(records(self.path), start=1):
            number = record.pop("index", None)
            if not isinstance(number, int):
                raise DlkitError(
                    f"{self.path}: line {line} has no index: merge puts together what --shard,"
                    " torchrun or srun wrote"
                )
            if number < last:
                raise DlkitError(f"line {line} is out of order", self.path)
            if self.count is not None and number % self.count != self.index:
                raise DlkitError(
                    f"{self.path}: line {line} is of input {number}, which is of another shard"
                )
            last, end = number, place
            yield number, record
        if end != self.path.stat().st_size:
            raise DlkitError("its last line is cut short: run that shard again", self.path)


class Inputs:
    """Numbers of inputs that are wrong in some way: how many, and the first of them."""

    def __init__(self) -> None:
        self.total = 0
        self.first: list[int] = []

    def add(self, numbers: range) -> None:
        self.total += len(numbers)
        self.first += numbers[: SHOWN - len(self.first)]

    def said(self) -> str:
        inputs = "1 input" if self.total == 1 else f"{self.total} inputs"
        more = ", ..." if self.total > len(self.first) else ""
        return f"{inputs} ({', '.join(map(str, self.first))}{more})"


def merge(paths: Sequence[Path], output: Path | None) -> None:
    """Write the records of all files in the order of their inputs, without their numbers.

    An input that is in several files is written once. Exits with 1 if any is, or if one is missing.
    """
    files = [ShardFile.of(path) for path in paths]
    absent = missing_files(files)
    allow_open_files(len(files))
    twice, missing = Inputs(), Inputs()
    with results_file(output) as file:
        following, last_file, last_twice = 0, -1, -1
        for number, place, record in merged(files):
            if number < following and place != last_file:
                if number != last_twice:
                    twice.add(range(number, number + 1))
                last_twice = number
                continue
            missing.add(range(following, number))
            following, last_file = number + 1, place
            print(json.dumps(record, ensure_ascii=False), file=file)
        file.flush()
    for path in absent:
        log(f"dlkit: {path}: no such file")
    if missing.total:
        log(f"dlkit: results are missing of {missing.said()}, counted from 0")
    if twice.total:
        log(f"dlkit: there are several results of {twice.said()}: the first file's are taken")
    if absent or missing.total or twice.total:
        raise typer.Exit(1)


def merged(files: Iterable[ShardFile]) -> Iterator[tuple[int, int, Record]]:
    """The records in the order of their inputs, then of the files; a few of each file at a time."""

    def of(place: int, file: ShardFile) -> Iterator[tuple[int, int, Record]]:
        return ((number, place, record) for number, record in file.records())

    streams = [of(place, file) for place, file in enumerate(files)]
    return heapq.merge(*streams, key=lambda entry: entry[:2])


def missing_files(files: Sequence[ShardFile]) -> list[Path]:
    """The shards that none of the files is. Raises DlkitError for files of different runs."""
    counts: dict[int, ShardFile] = {}
    for file in files:
        if file.count is not None:
            counts.setdefault(file.count, file)
    if len(counts) > 1:
        first, second, *_ = counts.values()
        raise DlkitError(
            f"{first.path} and {second.path} are of {first.count} and of {second.count} shards:"
            " merge one run at a time"
        )
    for count, example in counts.items():
        there = {file.index for file in files}
        stem, _, rest = example.path.name.rpartition(f"{example.index:05}-of-")
        return [
            example.path.with_name(f"{stem}{index:05}-of-{rest}")
            for index in range(count)
            if index not in there
        ]
    return []


def allow_open_files(count: int) -> None:
    """Let so many files be open at once, if the system does."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(now, count + 64)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
