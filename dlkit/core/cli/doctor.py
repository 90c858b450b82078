"""The findings of `dlkit doctor`: versions, devices, precision, folders, files, a verdict."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, TextIO

import torch
import torchvision

from dlkit import __version__
from dlkit.core.environment import cache, cpu_flags, total_memory
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.tables import Table, terminal_console
from dlkit.core.parallel import device
from dlkit.core.store import checkpoint
from dlkit.core.store.weights import bundled

# Instruction sets that matter here, by their names in Linux, the fastest last.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX",
}
SIDE, ROUNDS = 1024, 6  # of the matrices that are multiplied, and how often
VERDICT = "verdict"
NAMES = 36  # columns of the names of findings


@dataclass(frozen=True)
class Finding:
    """A fact about the installation."""

    what: str
    value: str
    good: ClassVar[bool] = True


@dataclass(frozen=True)
class Fault(Finding):
    """A verdict that something does not work."""

    good: ClassVar[bool] = False


def examine(
    tasks: Iterable[str], loaders: Mapping[str, Callable[[Path], object]]
) -> Iterator[Finding | Failure]:
    """Yield a Finding for each fact, and a Failure for each damaged bundled file.

    `loaders` load the models of tasks whose files are not checkpoints.
    """
    yield Finding("dlkit", __version__)
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("torch", torch.__version__)
    yield Finding("torchvision", torchvision.__version__)
    memory = total_memory()
    amount = "memory unknown" if memory is None else f"{memory / 2**30:.0f} GiB"
    yield Finding("device cpu", f"{torch.get_num_threads()} threads, {amount}")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(
            f"device cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        )
    if torch.backends.mps.is_available():
        yield Finding("device mps", "Apple GPU, shares the memory above")
    chosen = device.choose()
    precision = str(device.dtype(chosen, "auto")).removeprefix("torch.")
    yield Finding("auto", f"{chosen.type} in {precision}: {device.fast_bf16(chosen)[1]}")
    yield Finding("cpu instructions", instructions())
    speeds = {name: speed(chosen, name) for name in ("fp32", "bf16")}
    measured = ", ".join(f"{name} {value:.0f}" for name, value in speeds.items())
    yield Finding("speed", f"{measured} billion operations a second on {chosen.type}")
    state = "exists" if cache().exists() else "created by the first download"
    yield Finding("model cache", f"{cache()} ({state})")
    files = damaged = 0
    for task in tasks:
        load = loaders.get(task, partial(checkpoint.load, task=task))
        for found in (check_file(task, path, load) for path in bundled(task)):
            files, damaged = files + 1, damaged + isinstance(found, Failure)
            yield found
    if damaged:
        yield Fault(VERDICT, f"{damaged} of {files} bundled files damaged; install dlkit-cli again")
    else:
        meaning = meaning_of(chosen, speeds["bf16"] / speeds["fp32"])
        yield Finding(VERDICT, f"everything works; {meaning}")


def check_file(task: str, path: Path, load: Callable[[Path], object]) -> Finding | Failure:
    """Whether a bundled file loads, with the right checksum."""
    try:
        load(path)
    except DlkitError as error:
        return Failure(str(path), error.reason_for(path))
    return Finding(f"bundled {task} {path.stem}", f"ok, {path.stat().st_size / 1e6:.1f} MB")


def instructions() -> str:
    """The CPU's instruction sets that matter here, and those that it lacks."""
    flags = cpu_flags()
    if not flags:
        return "unknown on this system"
    has = [name for flag, name in INSTRUCTIONS.items() if flag in flags]
    lacks = [name for flag, name in INSTRUCTIONS.items() if flag not in flags]
    return ", ".join(has or ["none of these"]) + (f"; without {', '.join(lacks)}" if lacks else "")


def speed(chosen: torch.device, precision: str) -> float:
    """Billions of operations a second in products of matrices, by the fastest round."""
    dtype = device.dtype(chosen, precision)
    matrix = torch.ones(SIDE, SIDE, device=chosen, dtype=dtype)
    least = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        least = min(least, time.perf_counter() - began)
    return 2 * SIDE**3 / least / 1e9


def meaning_of(chosen: torch.device, ratio: float) -> str:
    """The precision that dlkit takes by default, and the speed of bf16 as a share of fp32's."""
    fast, reason = device.fast_bf16(chosen)
    text = f"dlkit computes on {chosen.type} in {'bf16' if fast else 'fp32'} ({reason});"
    text += f" bf16 has {ratio:.1f} times the speed of fp32, as measured now"
    lacks_amx = chosen.type == "cpu" and cpu_flags() and "amx_bf16" not in cpu_flags()
    return text + ("; a CPU with AMX, or a GPU, is faster" if lacks_amx else "")


def write_findings(findings: Iterable[Finding | Failure], file: TextIO) -> None:
    """Print the findings on a terminal, the verdict with a mark."""
    table = Table(terminal_console(file))
    for finding in findings:
        if isinstance(finding, Failure):
            continue
        if finding.what == VERDICT:
            mark, color = ("✓", "green") if finding.good else ("✗", "red")
            table.print_line("")
            table.print_styled((f"{mark} {finding.value}", f"bold {color}"))
        else:
            table.print_styled((finding.what.ljust(NAMES), "bold"), (f"  {finding.value}", ""))
