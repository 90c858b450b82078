"""`dlkit merge`: one file from those of several shards, in input order. Loads no torch."""

import heapq
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import typer

from dlkit.core.errors import DlkitError, ExitStatus
from dlkit.core.io import provenance
from dlkit.core.io.writers import results_file
from dlkit.core.parallel.sharding import Record, records
from dlkit.core.progress import log

NAME = re.compile(r".*\.(\d{5,})-of-(\d{5,})(\.[^.]*)?")
MAX_SHOWN = 3  # inputs whose numbers a message names


@dataclass(frozen=True)
class ShardFile:
    """A file of results, with the shard and the number of shards in its name, if it has them."""

    path: Path
    index: int | None = None
    count: int | None = None

    @staticmethod
    def parse(path: Path) -> "ShardFile":
        """The file, with the shard that its name has."""
        match = NAME.fullmatch(path.name)
        return ShardFile(path, int(match[1]), int(match[2])) if match else ShardFile(path)

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yield the records with their inputs' numbers. Raises DlkitError if these do not rise."""
        last, end = -1, 0
        for line, (record, place) in enumerate(records(self.path), start=1):
            number = record.pop("index", None)
            if not isinstance(number, int):
                raise DlkitError(
                    f"line {line} has no index; merge takes the files that --shard, torchrun or"
                    " srun wrote",
                    self.path,
                )
            if number < last:
                raise DlkitError(f"line {line} is out of order", self.path)
            if self.count is not None and number % self.count != self.index:
                raise DlkitError(
                    f"line {line} is of input {number}, which belongs to another shard", self.path
                )
            last, end = number, place
            yield number, record
        if end != self.path.stat().st_size:
            raise DlkitError("its last line is cut short; run that shard again", self.path)


class Inputs:
    """The count of inputs with a problem, and the numbers of the first."""

    def __init__(self) -> None:
        self.total = 0
        self.first: list[int] = []

    def add(self, numbers: range) -> None:
        """Count these inputs."""
        self.total += len(numbers)
        self.first += numbers[: MAX_SHOWN - len(self.first)]

    def describe(self) -> str:
        """The count and the first numbers, for a message."""
        inputs = "1 input" if self.total == 1 else f"{self.total} inputs"
        more = ", ..." if self.total > len(self.first) else ""
        return f"{inputs} ({', '.join(map(str, self.first))}{more})"


def merge(paths: Sequence[Path], output: Path | None) -> None:
    """Write the records of all files in the order of their inputs, without their numbers.

    An input that is in several files is written once. Exits with 1 in that case, and if an input
    or a file is missing.
    """
    # A pattern such as out.* matches the files beside them, too.
    paths = [path for path in paths if not path.name.endswith(provenance.SUFFIX)]
    files = [ShardFile.parse(path) for path in paths]
    absent = missing_files(files)
    made_by = provenance.common(paths)
    allow_open_files(len(files))
    twice, missing = Inputs(), Inputs()
    with results_file(output) as file:
        following, last_file, last_twice = 0, -1, -1
        for number, place, record in merge_records(files):
            if number < following and place != last_file:
                if number != last_twice:
                    twice.add(range(number, number + 1))
                last_twice = number
                continue
            missing.add(range(following, number))
            following, last_file = number + 1, place
            print(json.dumps(record, ensure_ascii=False), file=file)
        file.flush()
    if made_by is not None and output is not None:
        provenance.save_beside(output, made_by)
    for path in absent:
        log(f"dlkit: {path}: no such file")
    if missing.total:
        log(f"dlkit: results are missing of {missing.describe()}, counted from 0")
    if twice.total:
        log(f"dlkit: several results of {twice.describe()}; those of the first file are written")
    if absent or missing.total or twice.total:
        raise typer.Exit(ExitStatus.FAILED_INPUTS)


def merge_records(files: Iterable[ShardFile]) -> Iterator[tuple[int, int, Record]]:
    """Yield the records in the order of their inputs, then of the files, reading files in turn."""

    def with_place(place: int, file: ShardFile) -> Iterator[tuple[int, int, Record]]:
        return ((number, place, record) for number, record in file.records())

    streams = [with_place(place, file) for place, file in enumerate(files)]
    return heapq.merge(*streams, key=lambda entry: entry[:2])


def missing_files(files: Sequence[ShardFile]) -> list[Path]:
    """The files of missing shards. Raises DlkitError for files of different runs."""
    counts: dict[int, ShardFile] = {}
    for file in files:
        if file.count is not None:
            counts.setdefault(file.count, file)
    if len(counts) > 1:
        first, second, *_ = counts.values()
        raise DlkitError(
            f"{first.path} and {second.path} are of {first.count} and of {second.count} shards;"
            " merge one run at a time"
        )
    for count, example in counts.items():
        found = {file.index for file in files}
        stem, _, rest = example.path.name.rpartition(f"{example.index:05}-of-")
        return [
            example.path.with_name(f"{stem}{index:05}-of-{rest}")
            for index in range(count)
            if index not in found
        ]
    return []


def allow_open_files(count: int) -> None:
    """Raise the limit of open files, where the system allows it."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(now, count + 64)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
