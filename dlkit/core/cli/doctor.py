"""The findings of `dlkit doctor`: versions, devices, precision, folders, bundled files."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torchvision

from dlkit import __version__
from dlkit.core.environment import total_memory
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.download import cache
from dlkit.core.parallel import device
from dlkit.core.store import checkpoint
from dlkit.core.store.weights import bundled


@dataclass(frozen=True)
class Finding:
    """A fact about the installation."""

    what: str
    value: str


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
    state = "exists" if cache().exists() else "created by the first download"
    yield Finding("model cache", f"{cache()} ({state})")
    for task in tasks:
        load = loaders.get(task, partial(checkpoint.load, task=task))
        yield from (check_file(task, path, load) for path in bundled(task))


def check_file(task: str, path: Path, load: Callable[[Path], object]) -> Finding | Failure:
    """Whether a bundled file loads, with the right checksum."""
    try:
        load(path)
    except DlkitError as error:
        return Failure(str(path), error.reason_for(path))
    return Finding(f"bundled {task} {path.stem}", f"ok, {path.stat().st_size / 1e6:.1f} MB")
