"""Shared by all benchmarks: contenders take turns; medians and ratios are printed.

A table for people goes to stderr; stdout gets one JSON line for the machine, then one for each
measurement and each target. Other work on the machine slows all contenders of a round alike, so
ratios are taken within each round, and the median over the rounds is reported.
"""

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch

from dlkit import __version__
from dlkit.core.environment import cpu_flags

Seconds = Callable[[], float]
Clock = Literal["wall", "cpu"]


@dataclass(frozen=True)
class Measurement:
    """Medians over the rounds; `ratio` is the value over the peer's value."""

    benchmark: str
    contender: str
    value: float
    unit: str
    lowest: float
    highest: float
    repeats: int
    ratio: float | None = None
    peer: str | None = None


def machine(threads: int, *packages: str) -> None:
    """Print the machine and the versions of packages, and set torch's number of threads."""
    torch.set_num_threads(threads)
    facts = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "amx_bf16": "amx_bf16" in cpu_flags(),
        "avx512_bf16": "avx512_bf16" in cpu_flags(),
        "python": platform.python_version(),
        "dlkit": __version__,
        **{name: installed_version(name) for name in ("torch", "torchvision", *packages)},
    }
    print_json(json.dumps({"machine": facts}))
    print_text("\n".join(f"{name:14} {fact}" for name, fact in facts.items()))


def note(**facts: object) -> None:
    """Print facts beside the measurements."""
    print_json(json.dumps({"note": facts}))
    print_text("  ".join(f"{name} {fact}" for name, fact in facts.items()))


def cpu_name() -> str:
    """Return the processor's name, on Linux from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def compare(
    name: str,
    contenders: Mapping[str, Callable[[], object]],
    unit: str,
    count: int,
    repeats: int = 7,
    peer: str | None = None,
    threads: int | None = None,
    clock: Clock = "wall",
) -> dict[str, Measurement]:
    """Measure `unit` per second of each contender, whose call processes `count` of them.

    On a busy machine wall time means little: use "cpu" and one thread there.
    """
    now = time.perf_counter if clock == "wall" else time.process_time

    def timed(work: Callable[[], object]) -> Seconds:
        def seconds() -> float:
            if threads is not None:
                torch.set_num_threads(threads)  # a contender may have changed it
            start = now()
            work()
            return now() - start

        return seconds

    rounds = take_turns({label: timed(work) for label, work in contenders.items()}, repeats)
    rates = [{label: count / seconds for label, seconds in round_.items()} for round_ in rounds]
    return report(name, rates, f"{unit}/s {clock}", peer)


def compare_apart(
    name: str,
    contenders: Mapping[str, Callable[[], Callable[[], object]]],
    unit: str,
    count: int,
    repeats: int = 7,
    peer: str | None = None,
    threads: int = 1,
    clock: Clock = "wall",
) -> dict[str, Measurement]:
    """The same as `compare`, with each contender in a process of its own.

    The settings of one library (threads, the allocator, environment variables) and its heap then do
    not change the other's speed. A contender is a function that pickle finds by name, with
    functools.partial for its arguments: it prepares, and returns the function to time. The result
    of the first call is printed.
    """
    with ExitStack() as stack:
        timed = {
            label: stack.enter_context(worker_process(label, setup, threads, clock))
            for label, setup in contenders.items()
        }
        rounds = take_turns(timed, repeats)
    rates = [{label: count / seconds for label, seconds in round_.items()} for round_ in rounds]
    return report(name, rates, f"{unit}/s {clock}", peer)


@contextmanager
def worker_process(
    label: str, setup: Callable[[], Callable[[], object]], threads: int, clock: Clock
) -> Iterator[Seconds]:
    """Start a process with a contender; yield a function that times one more call in it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, setup, threads, clock), daemon=True)
    process.start()
    theirs.close()
    try:
        note(contender=label, result=ours.recv())
    except EOFError:
        sys.exit(f"{label} failed: its error is above")

    def seconds() -> float:
        ours.send("again")
        taken: float = ours.recv()
        return taken

    try:
        yield seconds
    finally:
        ours.close()
        process.join()


def serve(
    caller: Connection, setup: Callable[[], Callable[[], object]], threads: int, clock: Clock
) -> None:
    """Send the result of the work, then the seconds of another call for each request."""
    now = time.perf_counter if clock == "wall" else time.process_time
    torch.set_num_threads(threads)
    work = setup()
    caller.send(work())
    with suppress(EOFError):  # the caller has closed the pipe
        while caller.recv():
            torch.set_num_threads(threads)  # the work may have changed it
            start = now()
            work()
            caller.send(now() - start)


def compare_processes(
    name: str,
    commands: Mapping[str, Sequence[str]],
    clock: Clock = "wall",
    repeats: int = 7,
    peer: str | None = None,
) -> dict[str, Measurement]:
    """Measure the milliseconds of whole processes: wall time, or CPU time (user + system)."""

    def timed(command: Sequence[str]) -> Seconds:
        return lambda: time_process(command, clock)

    rounds = take_turns({label: timed(command) for label, command in commands.items()}, repeats)
    times = [{label: 1000 * seconds for label, seconds in round_.items()} for round_ in rounds]
    return report(name, times, f"ms {clock}", peer)


def time_process(command: Sequence[str], clock: Clock = "wall") -> float:
    """Return the seconds of a process; if it fails, exit with its error output."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{errors.read().decode()}")
    return wall if clock == "wall" else used.ru_utime + used.ru_stime


def take_turns(contenders: Mapping[str, Seconds], repeats: int) -> list[dict[str, float]]:
    """Return the seconds of each contender in each round, after a round of warm-up.

    Each round starts with another contender, so that none always runs after the same one.
    """
    labels = list(contenders)
    for label in labels:
        contenders[label]()
    rounds = []
    for number in range(repeats):
        first = number % len(labels)
        order = labels[first:] + labels[:first]
        rounds.append({label: contenders[label]() for label in order})
    return rounds


def report(
    name: str, rounds: Sequence[Mapping[str, float]], unit: str, peer: str | None
) -> dict[str, Measurement]:
    """Print and return the measurements of one benchmark, in the order of its contenders."""
    print_text(f"\n{name} (median of {len(rounds)})")
    measurements = {}
    for label in rounds[0]:
        values = [round_[label] for round_ in rounds]
        ratio = None
        if peer is not None:
            ratio = statistics.median(round_[label] / round_[peer] for round_ in rounds)
        median = statistics.median(values)
        measurement = Measurement(
            name, label, median, unit, min(values), max(values), len(values), ratio, peer
        )
        measurements[label] = measurement
        print_json(json.dumps(asdict(measurement)))
        against = "" if ratio is None or label == peer else f"  {ratio:6.2f} x {peer}"
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print_text(f"  {label:32} {median:9.1f} {unit:12} {spread:>18}{against}")
    return measurements


def require(
    measurement: Measurement, at_least: float | None = None, at_most: float | None = None
) -> None:
    """Print whether the ratio to the peer reaches its target."""
    ratio = measurement.ratio
    assert ratio is not None
    met = (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)
    print_json(
        json.dumps(
            {
                "target": measurement.benchmark,
                "contender": measurement.contender,
                "peer": measurement.peer,
                "ratio": ratio,
                "at_least": at_least,
                "at_most": at_most,
                "met": met,
            }
        )
    )
    bound = f"at least {at_least}" if at_least is not None else f"at most {at_most}"
    print_text(
        f"  target: {measurement.contender} {bound} x {measurement.peer}:"
        f" {ratio:.2f}, {'met' if met else 'NOT MET'}"
    )


def print_json(line: str) -> None:
    """Print a line for programs, to stdout."""
    print(line, flush=True)


def print_text(text: str) -> None:
    """Print text for people, to stderr."""
    print(text, file=sys.stderr, flush=True)
