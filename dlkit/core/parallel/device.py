"""Device and precision of computations; the one place that decides on bf16."""

import ctypes
import functools
from contextlib import AbstractContextManager, suppress

import torch

from dlkit.core.environment import available_memory, cpu_flags, local_rank
from dlkit.core.errors import DlkitError

DEVICES = "choose from auto, cpu, cuda, cuda:1, mps"


def choose(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is an accelerator if there is one, else the CPU.

    `cuda` without a number is this process's own GPU, when torchrun or srun started several.
    """
    if name == "auto":
        available = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else available
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DlkitError(f"unknown device {name!r}; {DEVICES}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DlkitError(f"no device {name}; torch finds {count} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DlkitError("no device mps on this machine; use cpu")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    if device.type not in {"cpu", "cuda", "mps"}:
        raise DlkitError(f"dlkit does not run on {name!r}; {DEVICES}")
    return device


@functools.cache
def tune_malloc() -> None:
    """Stop glibc from returning freed memory to the kernel.

    Otherwise every layer's output page-faults again.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def trim_malloc() -> None:
    """Return freed memory to the system.

    Call it now and then where shapes change: the kept memory is fragmented then, and would grow to
    several times the need.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def fast_bf16(device: torch.device) -> tuple[bool, str]:
    """Whether the device multiplies bf16 much faster than fp32, and why."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return major >= 8, f"CUDA compute capability {major}.{minor} (bf16 from 8.0 on)"
    if device.type == "cpu":
        found = sorted(cpu_flags() & {"amx_bf16", "avx512_bf16"})
        return bool(found), f"CPU with {found[0]}" if found else "CPU without AMX or AVX512-BF16"
    return False, f"no fast bf16 known on {device.type}"


def dtype(device: torch.device, precision: str) -> torch.dtype:
    """The number type of `--precision` on this device."""
    if precision == "auto":
        return torch.bfloat16 if fast_bf16(device)[0] else torch.float32
    if precision == "fp16" and device.type == "cpu":
        raise DlkitError("--precision fp16 is for GPUs; use bf16 or fp32 on the CPU")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision for training: weights stay fp32, products run in `precision`."""
    chosen = dtype(device, precision)
    return torch.autocast(device.type, chosen, enabled=chosen != torch.float32)


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where it is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def out_of_memory(error: BaseException) -> bool:
    """Whether this was raised because a device has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
