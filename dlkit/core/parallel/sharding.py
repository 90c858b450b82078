"""The inputs of each process, and the file for its results. Loads no torch.

Processes that torchrun or srun started divide the inputs of a command. Where results go to
`-o FILE.jsonl`, each process writes a file of its own and does not wait for others; `dlkit merge`
merges the files. So do the jobs of an array, by `--shard`. Otherwise the main process writes the
results of all.
"""

import itertools
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from dlkit.core.environment import (
    exit_when_terminated,
    leave_group,
    lock_file,
    rank,
    world_size,
)
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.failures import Failure
from dlkit.core.io import provenance
from dlkit.core.io.files import (
    FileNames,
    check_ends,
    check_free,
    exists,
    is_device,
    keeps_existing,
    note_saved,
    whole_file,
)
from dlkit.core.io.views import View
from dlkit.core.io.views import record as record_of
from dlkit.core.io.writers import CountedResults, Format, Writer, write
from dlkit.core.progress import Inputs, count_of, log

if TYPE_CHECKING:
    from dlkit.core.parallel.distributed import Process

LONGEST_RECORD = 1 << 28  # bytes of a line
T = TypeVar("T")
R = TypeVar("R")

Record = dict[str, Any]
SYNC_INTERVAL = 30  # seconds after which results are also safe from a loss of power


@dataclass(frozen=True)
class Shard:
    """Every `step`-th input starting with number `first`; by default all inputs.

    `last` is the record of this shard's input before `first`; it must belong to these inputs. With
    `only`, these inputs and no others.
    """

    first: int = 0
    step: int = 1
    last: Record | None = None
    only: frozenset[int] | None = None

    def contains(self, number: int, item: Any) -> bool:
        """Whether input `number` belongs to this shard. Raises DlkitError for other inputs."""
        if self.only is not None:
            return number in self.only
        if self.last is not None and number == self.first - self.step:
            self.check(number, item)
        return number >= self.first and (number - self.first) % self.step == 0

    def check(self, number: int, item: Any) -> None:
        """Raise DlkitError unless the last record belongs to this input."""
        texts = [part for part in (item if isinstance(item, tuple) else (item,)) if is_text(part)]
        known = list((self.last or {}).values())
        if texts and "error" not in (self.last or {}) and not any(text in known for text in texts):
            raise DlkitError(
                f"--resume: the results so far are of other inputs: number {number} was"
                f" {next(filter(is_text, known), '?')!r} and is {texts[0]!r}"
            )

    def count(self, total: int | None) -> int | None:
        """The number of inputs of this shard, of a `total`."""
        if self.only is not None:
            return len(self.only)
        return None if total is None else len(range(self.first, total, self.step))

    def select(self, items: Iterable[T]) -> Iterator[T]:
        """The items of this shard."""
        number = -1
        for number, item in enumerate(items):
            if self.contains(number, item):
                yield item
        if self.last is not None and number < self.first - self.step:
            raise DlkitError("--resume: the results so far are of more inputs than there are")

    def select_windows(
        self, windows: Iterable[Sequence[T] | Failure]
    ) -> Iterator[list[tuple[int, T]] | Failure]:
        """The items of this shard in each window, with their numbers; a Failure is an item."""
        number = 0
        for window in windows:
            if isinstance(window, Failure):
                if self.contains(number, window):
                    yield window
                number += 1
            else:
                numbered = list(enumerate(window, number))
                number += len(window)
                yield [pair for pair in numbered if self.contains(*pair)]


def is_text(value: Any) -> bool:
    """Whether the value is a string."""
    return isinstance(value, str)


def map_shard(
    work: Callable[[Any], Iterator[R]],
    inputs: Iterable[T],
    device: str | None = None,
    shard: Shard | None = None,
    select: Callable[[Shard, Iterable[T]], Any] = Shard.select,
) -> Iterator[R]:
    """Yield the results of `work` on this `shard` of the inputs, in their order.

    Without a shard, the processes that torchrun or srun started divide the inputs, and all get all
    results. `select` picks the inputs of a shard. `device` None: the work needs no torch.
    """

    def own_results(own: Shard) -> Iterator[R]:
        selected = Inputs(select(own, inputs), lambda: own.count(count_of(inputs)()))
        # Work on windows of inputs handles failures among them itself.
        return with_failures(work, selected) if select is Shard.select else work(selected)

    if device is None and world_size() == 1:
        yield from own_results(shard or Shard())
        return
    from dlkit.core.parallel import distributed

    with distributed.launch(device or "cpu") as process:
        yield from process.gather(own_results(shard or Shard(process.rank, process.world_size)))


def with_failures(work: Callable[[Any], Iterator[R]], inputs: Inputs[Any]) -> Iterator[R]:
    """Yield the results of `work` on the inputs, and each input that is a Failure in its place.

    `work` yields a result for each input, in order, unless it handles failures itself.
    """
    failures: deque[tuple[int, Any]] = deque()  # with the number of readable inputs before it

    def readable() -> Iterator[Any]:
        before = 0
        for item in inputs:
            if isinstance(item, Failure):
                failures.append((before, item))
            else:
                before += 1
                yield item

    for number, result in enumerate(work(Inputs(readable(), inputs.count))):
        while failures and failures[0][0] <= number:
            yield failures.popleft()[1]
        yield result
    yield from (failure for _, failure in failures)


class SingleProcess:
    """The interface of `distributed.Process` for a single process, without torch."""

    rank, world_size, is_main = 0, 1, True

    def share(self, items: Iterable[T]) -> Iterator[T]:
        return iter(items)

    def gather(self, results: Iterable[T], max_size: int = 1) -> Iterator[T]:
        return iter(results)

    def barrier(self) -> None:
        pass


SINGLE_PROCESS = SingleProcess()
AnyProcess = Union[SingleProcess, "Process"]


@contextmanager
def join_processes() -> Iterator[AnyProcess]:
    """Join the processes that torchrun or srun started, for work that needs no torch."""
    if world_size() == 1:
        yield SINGLE_PROCESS
        return
    from dlkit.core.parallel import distributed

    with distributed.launch("cpu") as process:
        yield process


def launch_id() -> str:
    """An id of this torchrun launch, broadcast from rank 0.

    torchrun restarts all processes with the same store, and counts restarts on each node by itself.
    """
    with join_processes() as process:
        return list(process.gather([os.urandom(8).hex()]))[0]


def numbered_file(path: Path, index: int, count: int) -> Path:
    """The file of one of several shards: out.00003-of-00128.jsonl."""
    return path.with_name(f"{path.stem}.{index:05}-of-{count:05}{path.suffix}")


def parse_shard(text: str | None) -> tuple[int, int]:
    """`3/128` as numbers; all inputs are 0/1."""
    if text is None:
        return 0, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not index < count:
        raise DlkitError(f"--shard {text}: give I/N with I from 0 to N - 1, such as 0/8")
    return index, count


def remaining_jobs(
    jobs: Iterable[T], shard: str | None, resume: bool, is_made: Callable[[T], bool]
) -> Iterator[T]:
    """The jobs of this shard, where each job writes files of its own, which appear whole.

    With `resume` those that are made are skipped.
    """
    index, count = parse_shard(shard)
    for job in itertools.islice(jobs, index, None, count):
        if not (resume and is_made(job)):
            yield job


@dataclass(frozen=True)
class Selection:
    """The inputs of a command that are computed: the failed ones again, or `only` these."""

    retry_failed: bool = False
    only: frozenset[int] | None = None


_selection = Selection()


@contextmanager
def select_inputs(selection: Selection) -> Iterator[None]:
    """Within the context of a command, compute only some of its inputs."""
    global _selection
    before, _selection = _selection, selection
    try:
        yield
    finally:
        _selection = before


class ShardWriter:
    """The writer of this process's results, and its shard of the inputs.

    Results for `-o FILE.jsonl` are written to FILE.jsonl.partial line by line, so that `resume` can
    continue there after any interruption; after the last one the file gets its name. Each of
    several shards has a file of its own, whose records have the input's number, `index`.

    `begins` returns whether a record is the first of its input, where an input can have several.
    """

    def __init__(
        self,
        format: str,
        output: Path | None,
        shard: str | None = None,
        resume: bool = False,
        begins: Callable[[Record], bool] | None = None,
    ) -> None:
        self.format, self.output, self.begins = format, output, begins
        self.shard: Shard | None = None
        self.processes = world_size()
        self.done = self.end = self.failed = 0
        self.retries = _selection.retry_failed
        own_file = format == Format.jsonl and output is not None and not is_device(output)
        if not own_file:
            if shard is not None or resume or self.retries:
                option = "--resume" if shard is None else "--shard"
                option = "--retry-failed" if self.retries else option
                raise DlkitError(f"{option} needs results in a file; give -o FILE.jsonl")
            self.index, self.count = 0, 1
            return
        assert output is not None
        index, count = parse_shard(shard)
        self.index, self.count = index * self.processes + rank(), count * self.processes
        self.numbered = self.processes > 1 or shard is not None
        if self.numbered:
            self.output = output = numbered_file(output, self.index, self.count)
        self.start = ""
        if self.processes > 1:
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                self.start = launch_id()
            leave_group()
        self.partial = output.with_name(f"{output.name}.partial")
        if self.retries:
            self.shard = Shard(only=self.failed_inputs())
            return
        last = self.look_back(resume)
        if _selection.only is not None:
            self.shard = Shard(only=_selection.only)
            return
        self.shard = Shard(self.index + self.done * self.count, self.count, last)

    @property
    def source(self) -> Path:
        """The file of the results so far."""
        assert self.output is not None
        return self.partial if exists(self.partial) else self.output

    def failed_inputs(self) -> frozenset[int]:
        """The numbers of the inputs that failed in a finished file of results."""
        assert self.output is not None
        if self.begins is not None:
            raise DlkitError("--retry-failed: not for inputs with several results each")
        if self.partial.exists():
            raise DlkitError("not finished; continue it with --resume first", self.partial)
        provenance.check_beside(self.output)
        failed = set()
        for number, (record, end) in enumerate(records(self.output)):
            self.done, self.end = number + 1, end
            if "error" in record:
                failed.add(self.index + number * self.count)
        log(f"{self.output}: {len(failed)} of {self.done} inputs failed")
        return frozenset(failed)

    def look_back(self, resume: bool) -> Record | None:
        """Count the inputs that are done, and return the last record."""
        if not resume:
            if exists(self.partial) and self.partial.stat().st_size:
                raise DlkitError(
                    "holds the results of an interrupted command; add --resume to continue it, or"
                    " delete it",
                    self.partial,
                )
            assert self.output is not None
            check_free(self.output)
            return None
        if not exists(self.source):
            return None
        assert self.output is not None
        provenance.check_beside(self.output)
        last: Record | None = None
        found = self.done, self.end, self.failed, last
        failed = 0
        for number, (record, end) in enumerate(records(self.source)):
            if self.begins is None or self.begins(record):
                # With several records of an input, the next input shows which was its last.
                if self.begins is not None and number:
                    found = self.done, self.end, failed, last
                self.done += 1
            failed += "error" in record
            self.end, last = end, record
            expected = self.index + (self.done - 1) * self.count
            if self.numbered and record.get("index") != expected:
                raise DlkitError(f"record {number + 1} is not of input {expected}", self.source)
            if self.begins is None:
                found = self.done, self.end, failed, last
        self.done, self.end, self.failed, last = found
        return last

    def records_so_far(self) -> Iterator[Record]:
        """The records of the inputs that are done."""
        if self.done:
            yield from (record for record, end in records(self.source) if end <= self.end)

    def number_of(self, place: int) -> int:
        """The number of the input of this command's result number `place`, both from 0."""
        if self.shard is None:
            return place
        if self.shard.only is not None:
            return sorted(self.shard.only)[place]
        return self.shard.first + place * self.shard.step

    def last_result(self) -> tuple[int, Record] | None:
        """The number and the record of the last input that is done; None without."""
        if self.shard is None or self.shard.last is None:
            return None
        return self.shard.first - self.shard.step, self.shard.last

    def folder(self, folder: Path | None) -> Path | None:
        """The folder for this shard's files: each of several shards has its own."""
        if folder is None or self.count == 1:
            return folder
        return folder / f"{self.index:05}-of-{self.count:05}"

    def file_names(
        self, folder: Path, suffix_of: Callable[[str], str], paths: Iterable[str] = ()
    ) -> FileNames:
        """Names of output files in a folder, with those of the inputs that are done taken.

        Raises DlkitError if a file for one of the inputs `paths` exists and is kept.
        """
        names = FileNames(self.folder(folder) or folder)
        for record in self.records_so_far():
            if "error" not in record:
                names.reserve(record["path"], suffix_of(record["path"]))
        if keeps_existing():
            names.check(paths if self.shard is None else self.shard.select(paths), suffix_of)
        return names

    def write(
        self, results: Iterable[Any], writer: Writer | None = None, view: View | None = None
    ) -> None:
        """Write results as `writers.write` does, into this shard's own file if it has one."""
        if self.shard is None:
            write(results, self.format, self.output, writer, view)
            return
        if self.retries:
            counted = CountedResults(results, self.done - len(self.shard.only or ()))
            self.replace_failed(counted)
            counted.end()
            return
        counted = CountedResults(results, self.done, self.failed)
        self.append(counted)
        if self.start:
            self.report_done(wait=counted.failed > 0)
        counted.end()

    def append(self, results: CountedResults) -> None:
        """Append the results to those that are done, and give the file its name."""
        assert self.output is not None
        others = False
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            provenance.save_beside(self.output)
            if self.done:
                os.replace(self.source, self.partial)
                os.truncate(self.partial, self.end)
                log(f"{self.output}: {self.done} inputs are done")
            with (
                exit_when_terminated(),
                self.partial.open(
                    "a", encoding="utf-8", errors="surrogateescape", newline=""
                ) as file,
            ):
                if not lock_file(file):
                    others = True
                    raise DlkitError("is being written by another command", self.partial)
                if not self.done:
                    file.truncate(0)
                index = self.index + (self.done - 1) * self.count
                synced = time.monotonic()
                for result in results:
                    record = record_of(result)
                    if self.begins is None or self.begins(record):
                        index += self.count
                    if self.numbered:
                        record = {"index": index, **record}
                    # Each line is written at once: a kill leaves complete lines, but for the last.
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                    file.flush()
                    if time.monotonic() - synced > SYNC_INTERVAL:
                        os.fsync(file.fileno())
                        synced = time.monotonic()
                os.fsync(file.fileno())
            os.replace(self.partial, self.output)
            note_saved(self.output)
        except OSError as error:
            self.leave_partial()
            reason = error.strerror or error
            raise DlkitError(f"cannot be written ({reason})", self.output) from error
        except BaseException:
            if not others:
                self.leave_partial()
            raise

    def replace_failed(self, results: CountedResults) -> None:
        """Write the file of results again, with the new results in place of the failed ones."""
        assert self.output is not None
        fresh = iter(results)
        with (
            whole_file(self.output) as partial,
            partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            for record, _ in records(self.output):
                if "error" in record:
                    again = record_of(next(fresh))
                    record = {"index": record["index"], **again} if self.numbered else again
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            os.fsync(file.fileno())
        note_saved(self.output)

    def leave_partial(self) -> None:
        """Report the results so far, or remove an empty file."""
        with suppress(OSError):
            if self.partial.stat().st_size:
                log(f"{self.partial} holds the results so far; continue with --resume")
            else:
                self.partial.unlink()

    def report_done(self, wait: bool) -> None:
        """Report to the other processes that this one is done, and `wait` for all of them.

        As soon as a process exits with another code than 0, torchrun ends the others: a process
        with failed inputs must exit last.
        """
        from torch.distributed import TCPStore

        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        key = f"dlkit/done/{self.start}"
        with suppress(RuntimeError):  # the launcher has ended
            store = TCPStore(*address, is_master=False)
            done = store.add(key, 1)
            while wait and done < self.processes:
                time.sleep(0.2)
                done = store.add(key, 0)


def records(path: Path) -> Iterator[tuple[Record, int]]:
    """Yield the records of a file of JSON lines, each with its end; skip an incomplete last one."""
    end = 0
    check_ends(path)
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(LONGEST_RECORD)
                if len(line) == LONGEST_RECORD:
                    raise DlkitError(f"line {number} is too long for a record", path)
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                try:
                    record = json.loads(line.decode("utf-8", "surrogateescape"))
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict):
                    raise DlkitError(f"line {number} is not a JSON record", path)
                yield record, end
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error
