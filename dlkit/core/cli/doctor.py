"""What `dlkit doctor` finds out: versions, devices, precision, folders, bundled files."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision

from dlkit import __version__
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.download import cache
from dlkit.core.parallel import device
from dlkit.core.store import checkpoint
from dlkit.core.store.weights import bundled


@dataclass(frozen=True)
class Finding:
    what: str
    value: str


def examine(
    tasks: Iterable[str], loaders: Mapping[str, Callable[[Path], object]]
) -> Iterator[Finding | Failure]:
    """One line a fact; a Failure for a bundled file that is damaged.

    `loaders` load the models of tasks whose files are no checkpoints.
    """
    yield Finding("dlkit", __version__)
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("torch", torch.__version__)
    yield Finding("torchvision", torchvision.__version__)
    yield Finding("device cpu", f"{torch.get_num_threads()} threads, {cpu_memory()}")
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
    state = "exists" if cache().exists() else "made when something is downloaded"
    yield Finding("model cache", f"{cache()} ({state})")
    for task in tasks:
        for path in bundled(task):
            try:
                if task in loaders:
                    loaders[task](path)
                else:
                    checkpoint.load(path, task)
            except DlkitError as error:
                yield Failure(str(path), str(error))
            else:
                yield Finding(
                    f"bundled {task} {path.stem}", f"ok, {path.stat().st_size / 1e6:.1f} MB"
                )


def cpu_memory() -> str:
    """The machine's memory, where Linux tells it."""
    try:
        with open("/proc/meminfo") as file:
            kilobytes = int(file.readline().split()[1])
    except (OSError, ValueError, IndexError):
        return "memory unknown"
    return f"{kilobytes / 2**20:.0f} GiB"
