"""The process's environment: streams, ranks of torchrun or SLURM, and parts of some systems only.

Loads no torch. Signals and `/proc` are looked up here, so that dlkit runs where they are
missing (Windows, macOS).
"""

import functools
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from dlkit.core.errors import DlkitError

# What schedulers send before they end a process; Windows has no SIGUSR1.
PREEMPTION_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
)

PAUSE = 0.05  # seconds without an input on stdin, after which those before it are answered

STOP_SIGNALS = (*PREEMPTION_SIGNALS, signal.SIGINT)  # with Ctrl-C


@dataclass(frozen=True)
class Streams:
    """The streams of a command; None for one that was closed before dlkit started."""

    stdin: TextIO | None
    stdout: TextIO | None
    stderr: TextIO | None


_replaced: list[Streams] = []


def streams() -> Streams:
    """The streams of this command: the interpreter's own, unless they are replaced."""
    return _replaced[-1] if _replaced else Streams(sys.stdin, sys.stdout, sys.stderr)


@contextmanager
def use_streams(replacement: Streams | None) -> Iterator[None]:
    """Replace the streams within this context; None leaves them."""
    if replacement is None:
        yield
        return
    _replaced.append(replacement)
    try:
        yield
    finally:
        _replaced.pop()


_commands: list[list[str]] = []


def command_line() -> str | None:
    """The command of dlkit that runs, as typed; None in a call from Python."""
    return shlex.join(["dlkit", *_commands[-1]]) if _commands else None


def command_name() -> str:
    """The task or command that runs; in a call from Python, dlkit itself."""
    words = _commands[-1] if _commands else []
    return next((word for word in words if not word.startswith("-")), "dlkit")


def command_arguments() -> list[str]:
    """The arguments of the command that runs now."""
    return list(_commands[-1]) if _commands else sys.argv[1:]


@contextmanager
def use_command(args: list[str]) -> Iterator[None]:
    """Run the command with these arguments within this context."""
    _commands.append(args)
    try:
        yield
    finally:
        _commands.pop()


class ListOnStdin:
    """The inputs that are listed on stdin while they are read: whether the next one has arrived."""

    def __init__(self) -> None:
        self.known: int | None = None  # inputs that are read and not used; None: nothing is listed
        self.paused = False

    def pauses(self) -> bool:
        """Whether the next input has not arrived; False where the system does not show it."""
        if self.known != 0:
            return False
        try:
            stream = streams().stdin
            number = -1 if stream is None else stream.fileno()
            # Only the first of several questions waits for a moment.
            ready, _, _ = select.select([number], [], [], 0 if self.paused else PAUSE)
        except (OSError, ValueError):  # closed, no file, or a pipe of Windows
            return False
        self.paused = not ready
        return self.paused


_list_on_stdin = ListOnStdin()


def stdin_pauses() -> bool:
    """Whether inputs are listed on stdin, and the next one has not arrived."""
    return _list_on_stdin.pauses()


def listed_on_stdin(batches: Iterable[list[str]]) -> Iterator[str]:
    """Yield the lines of stdin in batches, as inputs; empty lines are none."""
    try:
        _list_on_stdin.known = 0
        for batch in batches:
            found = [line for line in batch if line]
            _list_on_stdin.paused = False
            for number, line in enumerate(found, 1):
                _list_on_stdin.known = len(found) - number
                yield line
    finally:
        _list_on_stdin.known = None


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is open and a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


class Coloring(StrEnum):
    """`--color`: when results are printed as on a terminal, with colors."""

    auto = "auto"
    always = "always"
    never = "never"


_coloring = Coloring.auto


def coloring() -> Coloring:
    """The `--color` of this command."""
    return _coloring


@contextmanager
def use_coloring(chosen: Coloring) -> Iterator[None]:
    """Print with this `--color` within the context."""
    global _coloring
    before, _coloring = _coloring, chosen
    try:
        yield
    finally:
        _coloring = before


def environment_int(*names: str) -> int | None:
    """The first of these environment variables that is set, as a number.

    Raises DlkitError for one that is no number from 0 on.
    """
    for name in names:
        if text := os.environ.get(name):
            if not text.isdecimal() or len(text) > 9:
                raise DlkitError(f"{name}={text} in the environment: not a number; unset it")
            return int(text)
    return None


# The requirements of each extra of the distribution, as in pyproject.toml.
EXTRAS = {"video": "av>=14", "hub": "tokenizers>=0.21"}


def install_command(extra: str) -> str:
    """The command that installs an extra's requirements into this installation of dlkit.

    It names the requirements, not the distribution, so that it is right for a checkout, too.
    """
    requirement = f"'{EXTRAS[extra]}'"
    prefix = Path(sys.prefix).parts
    if "pipx" in prefix:
        return f"pipx inject dlkit-cli {requirement}"
    if "uv" in prefix and "tools" in prefix:
        return f"uv tool install dlkit-cli --with {requirement}"
    return f"{Path(sys.executable).stem} -m pip install {requirement}"


def cache() -> Path:
    """The folder of downloads, compiled code and search indexes; the first use creates it."""
    return Path(os.environ.get("DLKIT_CACHE") or Path.home() / ".cache" / "dlkit")


def shows_traces() -> bool:
    """Whether DLKIT_DEBUG asks for the trace after the line of an error."""
    return os.environ.get("DLKIT_DEBUG") == "1"


_group_left = False


def leave_group(left: bool = True) -> None:
    """From here on this process counts as the only one: it prints, and waits for no other."""
    global _group_left
    _group_left = left


def rank() -> int:
    """The number of this process among those that torchrun or srun started, from 0."""
    return 0 if _group_left else environment_int("RANK", "SLURM_PROCID") or 0


def local_rank() -> int:
    """The number of this process among those of its node, from 0."""
    return environment_int("LOCAL_RANK", "SLURM_LOCALID") or 0


def world_size() -> int:
    """The number of processes that torchrun or srun started.

    SLURM_NTASKS is not used: a batch script has it, too, where only one process runs.
    """
    if _group_left:
        return 1
    return environment_int("WORLD_SIZE", "SLURM_STEP_NUM_TASKS") or 1


def check_ranks() -> None:
    """Raise DlkitError for numbers of processes in the environment that are none, or do not fit."""
    environment_int("LOCAL_RANK", "SLURM_LOCALID")
    environment_int("LOCAL_WORLD_SIZE")
    environment_int("DLKIT_TIMEOUT")
    environment_int("DLKIT_MAX_DOWNLOAD")
    number, count = rank(), world_size()
    if number >= max(count, 1) and environment_int("WORLD_SIZE") is not None:
        raise DlkitError(
            f"RANK={number} and WORLD_SIZE={count} in the environment do not fit; unset both, or"
            " start dlkit with torchrun or srun"
        )


def is_main_process() -> bool:
    """Whether this process is the one that prints, of those that torchrun or srun started."""
    return rank() == 0


@contextmanager
def exit_when_terminated() -> Iterator[None]:
    """Within the context SIGTERM is raised as SystemExit, so that finished work can be reported."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)  # as a shell reports it

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def lock_file(file: TextIO) -> bool:
    """Lock an open file until it is closed; whether no other process has locked it.

    True as well where the system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def ignore_signals(signals: tuple[signal.Signals, ...] = PREEMPTION_SIGNALS) -> None:
    """Ignore these signals in this process."""
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets as Linux lists them; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").split())


def available_memory() -> int | None:
    """Bytes of memory that this process can still use; None where it is unknown."""
    try:
        free = 1024 * _kernel_number(Path("/proc/meminfo"), "MemAvailable:")
    except (OSError, LookupError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        return min(free, limit - _kernel_number(group / "memory.stat", "anon"))
    except (OSError, LookupError, ValueError):  # this control group has no limit
        return free


def total_memory() -> int | None:
    """The machine's memory in bytes; None where it is unknown."""
    try:
        return 1024 * _kernel_number(Path("/proc/meminfo"), "MemTotal:")
    except (OSError, LookupError, ValueError):
        return None


def _kernel_number(path: Path, name: str) -> int:
    """The number after a name, in one of the kernel's files with a name in each line."""
    return int(dict(line.split()[:2] for line in path.read_text().splitlines())[name])
