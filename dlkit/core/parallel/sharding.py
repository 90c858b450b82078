"""Which inputs are this process's, and the file that its results go to. Loads no torch.

Processes that torchrun or srun started share the inputs of a command. Where results go to
`-o FILE.jsonl`, each of them writes a file of its own and waits for nobody; `dlkit merge` puts the
files together. So do the jobs of an array, by `--shard`. Else the main process writes what all of
them found.
"""

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from dlkit.core.environment import leave_group, rank, world_size
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, is_device
from dlkit.core.io.writers import CountedResults, Format, Writer, write
from dlkit.core.progress import log

if TYPE_CHECKING:
    from dlkit.core.parallel.distributed import Process

T = TypeVar("T")
R = TypeVar("R")

Record = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """Every `step`-th input from number `first` on; by default all of them.

    `last` is the record of this share's input before `first`, which must be of these inputs.
    """

    first: int = 0
    step: int = 1
    last: Record | None = None

    def contains(self, number: int, item: Any) -> bool:
        """Whether input `number` is of this share. Raises DlkitError for other inputs."""
        if self.last is not None and number == self.first - self.step:
            self.check(number, item)
        return number >= self.first and (number - self.first) % self.step == 0

    def check(self, number: int, item: Any) -> None:
        texts = [part for part in (item if isinstance(item, tuple) else (item,)) if is_text(part)]
        known = list((self.last or {}).values())
        if texts and "error" not in (self.last or {}) and not any(text in known for text in texts):
            raise DlkitError(
                f"--resume: the results so far are of other inputs: number {number} was"
                f" {next(filter(is_text, known), '?')!r} and is {texts[0]!r}"
            )

    def select(self, items: Iterable[T]) -> Iterator[T]:
        """The items of this share."""
        number = -1
        for number, item in enumerate(items):
            if self.contains(number, item):
                yield item
        if self.last is not None and number < self.first - self.step:
            raise DlkitError("--resume: the results so far are of more inputs than there are")

    def select_windows(
        self, windows: Iterable[Sequence[T] | Failure]
    ) -> Iterator[list[tuple[int, T]] | Failure]:
        """The items of this share with their numbers, of those that come at once.

        A Failure stands for an item.
        """
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
    return isinstance(value, str)


def map_shard(
    work: Callable[[Any], Iterator[R]],
    inputs: Iterable[T],
    device: str | None = None,
    shard: Shard | None = None,
    deal: Callable[[Shard, Iterable[T]], Any] = Shard.select,
) -> Iterator[R]:
    """What `work` makes of the inputs, in their order: a result for each.

    It is given this `share` of them; without one, the processes that torchrun or srun started
    share them, and all get all results. `device` None: the work needs no torch.
    """
    if device is None and world_size() == 1:
        yield from work(deal(shard or Shard(), inputs))
        return
    from dlkit.core.parallel import distributed

    with distributed.launch(device or "cpu") as process:
        mine = shard or Shard(process.rank, process.world_size)
        yield from process.gather(work(deal(mine, inputs)))


class SingleProcess:
    """One process by itself, as a `distributed.Process` is one of several, without torch."""

    rank, world_size, is_main = 0, 1, True

    def share(self, items: Iterable[T]) -> Iterator[T]:
        return iter(items)

    def gather(self, results: Iterable[T], most: int = 1) -> Iterator[T]:
        return iter(results)

    def barrier(self) -> None:
        pass


SINGLE_PROCESS = SingleProcess()
AnyProcess = Union[SingleProcess, "Process"]


@contextmanager
def join_processes() -> Iterator[AnyProcess]:
    """This process among those that torchrun or srun started, for work that needs no torch."""
    if world_size() == 1:
        yield SINGLE_PROCESS
        return
    from dlkit.core.parallel import distributed

    with distributed.launch("cpu") as process:
        yield process


def launch_id() -> str:
    """A name of this start of the processes by torchrun; all learn it from the main one.

    torchrun may start all again, with the store that it gives them, and counts its starts on each
    node for itself.
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
    """The jobs of this shard, where each has files of its own, which appear whole.

    With `resume` without those that are made.
    """
    index, count = parse_shard(shard)
    for job in itertools.islice(jobs, index, None, count):
        if not (resume and is_made(job)):
            yield job


class ShardWriter:
    """This process's part of a command: its share of the inputs, and where its results go.

    Results in `-o FILE.jsonl` come to stand in FILE.jsonl.partial line by line, so that `resume`
    can go on there after any end; with the last one the file gets its name. Of several parts each
    has a file of its own, whose records have the input's number, `index`.

    `begins` says which records are the first of an input, where an input can have several.
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
        own_file = format == Format.jsonl and output is not None and not is_device(output)
        if not own_file:
            if shard is not None or resume:
                option = "--resume" if shard is None else "--shard"
                raise DlkitError(f"{option} is for results in a file: give -o FILE.jsonl")
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
        last = self.look_back(resume)
        self.shard = Shard(self.index + self.done * self.count, self.count, last)

    @property
    def source(self) -> Path:
        """The file of the results so far."""
        assert self.output is not None
        return self.partial if self.partial.exists() else self.output

    def look_back(self, resume: bool) -> Record | None:
        """Find out what is done, and return the last record of it."""
        if not resume:
            if self.partial.exists() and self.partial.stat().st_size:
                raise DlkitError(
                    f"{self.partial} holds the results of a run that did not end: add --resume to"
                    " go on with it, or delete it"
                )
            return None
        if not self.source.exists():
            return None
        last: Record | None = None
        found = self.done, self.end, self.failed, last
        failed = 0
        for number, (record, end) in enumerate(records(self.source)):
            if self.begins is None or self.begins(record):
                # With several records of an input, nothing says which is its last.
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
        """What is done, again."""
        if self.done:
            yield from (record for record, end in records(self.source) if end <= self.end)

    def folder(self, folder: Path | None) -> Path | None:
        """Where this part writes files: of several, each in a folder of its own."""
        if folder is None or self.count == 1:
            return folder
        return folder / f"{self.index:05}-of-{self.count:05}"

    def file_names(self, folder: Path, suffix_of: Callable[[str], str]) -> FileNames:
        """Names of files for results in a folder, of which those for what is done are taken."""
        names = FileNames(self.folder(folder) or folder)
        for record in self.records_so_far():
            if "error" not in record:
                names.path_for(record["path"], suffix_of(record["path"]))
        return names

    def write(self, results: Iterable[Any], writer: Writer | None = None) -> None:
        """As `output.write`, into this part's own file if it has one."""
        if self.shard is None:
            write(results, self.format, self.output, writer)
            return
        counted = CountedResults(results, self.done, self.failed)
        self.append(counted)
        if self.start:
            self.say_done(wait=counted.failed > 0)
        counted.end()

    def append(self, results: CountedResults) -> None:
        """Write the results behind those that are done, and give the file its name."""
        assert self.output is not None
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            if self.done:
                os.replace(self.source, self.partial)
                os.truncate(self.partial, self.end)
                log(f"{self.output}: {self.done} inputs are done")
            mode = "a" if self.done else "w"
            with self.partial.open(
                mode, encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                index = self.index + (self.done - 1) * self.count
                for result in results:
                    record = asdict(result)
                    if self.begins is None or self.begins(record):
                        index += self.count
                    if self.numbered:
                        record = {"index": index, **record}
                    # In one piece and at once: what is killed leaves whole lines, but for one.
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                    file.flush()
            os.replace(self.partial, self.output)
        except OSError as error:
            self.leave_partial()
            reason = error.strerror or error
            raise DlkitError(f"cannot be written ({reason})", self.output) from error
        except BaseException:
            self.leave_partial()
            raise

    def leave_partial(self) -> None:
        """Say that there is something to go on with, or leave nothing."""
        with suppress(OSError):
            if self.partial.stat().st_size:
                log(f"{self.partial} holds the results so far: --resume goes on")
            else:
                self.partial.unlink()

    def say_done(self, wait: bool) -> None:
        """Tell the other processes that this one has done its part, and `wait` for all of them.

        As soon as one process ends with an exit code that is not 0, torchrun ends the others: one
        of whose inputs some failed must not end before them.
        """
        from torch.distributed import TCPStore

        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        key = f"dlkit/done/{self.start}"
        with suppress(RuntimeError):  # the launcher is gone
            store = TCPStore(*address, is_master=False)
            done = store.add(key, 1)
            while wait and done < self.processes:
                time.sleep(0.2)
                done = store.add(key, 0)


def records(path: Path) -> Iterator[tuple[Record, int]]:
    """The records of a file of JSON lines, each with where it ends; not a last one cut short."""
    end = 0
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline()
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                try:
                    record = json.loads(line.decode("utf-8", "surrogateescape"))
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    raise DlkitError(f"line {number} is no JSON record", path)
                yield record, end
    except OSError as error:
        raise DlkitError(f"{error.strerror or error}", path) from error
