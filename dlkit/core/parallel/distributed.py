"""One process, or the processes that torchrun or srun started: the same code runs in both."""

import itertools
import os
import random
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, distributed, nn
from torch.distributed import TCPStore
from torch.nn.parallel import DistributedDataParallel

from dlkit.core import environment
from dlkit.core.errors import DlkitError, ExitStatus
from dlkit.core.parallel.device import choose
from dlkit.core.progress import print_error

T = TypeVar("T")
MISSING = object()
# Parts of gloo's messages about a lost or silent process; torch has no class for it.
GLOO_ERRORS = (
    "gloo",
    "Gloo",
    "Application timeout",
    "Connection closed by peer",
    "Timed out waiting",
)
groups_made = itertools.count()  # process groups in the life of this process
TIMEOUT = 1800  # seconds to wait for the other processes, unless DLKIT_TIMEOUT is set
GATHER_SIZE = 256  # results of each process that are exchanged together, at most


@dataclass(frozen=True)
class Process:
    """This process among `world_size`, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device
    wrapped: WeakSet[DistributedDataParallel] = field(default_factory=WeakSet)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and saves."""
        return self.rank == 0

    def parts(self, each: int, batch_size: int | None = None) -> tuple[range, int]:
        """The parts of a batch that this process computes, and the number of parts of all.

        A batch has `each` parts for every process. Raises DlkitError where `batch_size` samples
        cannot be divided into equal parts.
        """
        num_parts = each * self.world_size
        if batch_size is not None and batch_size % num_parts:
            parts = f" x {each} parts each" if each > 1 else ""
            raise DlkitError(
                f"--batch-size {batch_size} does not divide over {self.world_size} processes{parts}"
            )
        return range(self.rank * each, (self.rank + 1) * each), num_parts

    def wrap(self, model: nn.Module) -> nn.Module:
        """Move the model to the device, in channels_last; average its gradients over processes."""
        model.to(self.device).to(memory_format=torch.channels_last)
        if self.world_size == 1 or not any(p.requires_grad for p in model.parameters()):
            return model
        ids = [self.device.index or 0] if self.device.type == "cuda" else None
        # Looking for unused parameters keeps the order of the gradients' sums: otherwise torch
        # reorders them after the first step, and a resumed run rounds that step differently.
        in_order = self.device.type == "cpu"
        wrapped = DistributedDataParallel(model, device_ids=ids, find_unused_parameters=in_order)
        self.wrapped.add(wrapped)
        return wrapped

    def shard(self, model: nn.Module, blocks: Iterable[nn.Module]) -> nn.Module:
        """Return the model on its device with its weights sharded over the processes (FSDP2).

        Gradients, which are averaged, and the optimizer's state are sharded alike. The weights of
        a block are complete only while it computes, and blocks are moved to the device one at a
        time: the complete model must fit into the memory of the host only. From then on all
        processes must call the model together. A single process keeps all weights.
        """
        if self.world_size == 1:
            return model.to(self.device)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.world_size,))
        for part in (*blocks, model):
            fully_shard(part.to(self.device), mesh=mesh)
        return model

    def gather_tensors(self, value: Any) -> Any:
        """The value of a state_dict() with complete tensors instead of sharded ones.

        All processes must call it; the main one gets the tensors, on the CPU.
        """
        if isinstance(value, list):
            return [self.gather_tensors(item) for item in value]
        if isinstance(value, dict):
            return {name: self.gather_tensors(item) for name, item in value.items()}
        if not is_sharded(value):
            return value
        tensor = value.full_tensor()
        return tensor.cpu() if self.is_main else None

    def average_gradients(self, now: bool) -> None:
        """Set whether the next backward pass averages over processes, or only sums in each."""
        for wrapped in self.wrapped:
            wrapped.require_backward_grad_sync = now

    def mean(self, values: Tensor) -> Tensor:
        """The mean of the values over the processes, in each of them."""
        if self.world_size > 1:
            distributed.all_reduce(values)
            values = values / self.world_size
        return values

    @torch.no_grad()
    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers, such as the means of batch norm, to all others."""
        if self.world_size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """Every `world_size`-th item, starting with this process's rank."""
        return itertools.islice(items, self.rank, None, self.world_size)

    def gather(self, results: Iterable[T], max_size: int = GATHER_SIZE) -> Iterator[T]:
        """Yield the results of all processes in the order of the inputs, in each of them.

        Results are exchanged as they come, in growing groups of at most `max_size`.
        """
        if self.world_size == 1:
            yield from results
            return
        results = iter(results)
        count = 1
        while True:
            shares: list[Any] = [None] * self.world_size
            distributed.all_gather_object(shares, list(itertools.islice(results, count)))
            for round_ in itertools.zip_longest(*shares, fillvalue=MISSING):
                yield from (item for item in round_ if item is not MISSING)
            if all(len(share) < count for share in shares):
                return
            count = min(2 * count, max_size)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            distributed.barrier()


def is_sharded(value: Any) -> bool:
    """Whether the value is a tensor that is sharded over the processes."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def shard_like(parameter: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state of a parameter, with its tensors sharded as the parameter is."""
    if not is_sharded(parameter):
        return state
    from torch.distributed.tensor import distribute_tensor

    where: Any = parameter
    return {
        name: distribute_tensor(
            value.to(parameter.device), where.device_mesh, where.placements, src_data_rank=None
        )
        if isinstance(value, Tensor) and value.shape == parameter.shape
        else value
        for name, value in state.items()
    }


@contextmanager
def launch(device: str, seed: int = 0) -> Iterator[Process]:
    """Join the process group, if there is one, seed this process, and leave the group at the end.

    Reads torchrun's RANK, LOCAL_RANK and WORLD_SIZE, else SLURM's; nccl on GPUs, gloo on CPUs.
    Exits with ExitStatus.REQUEUE and a line on stderr if other processes are missing or lost.
    """
    rank, world_size = environment.rank(), environment.world_size()
    chosen = choose(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    random.seed(seed)
    torch.manual_seed(seed)
    if world_size == 1:
        yield Process(0, 1, chosen)
        return
    set_master_address()
    seconds = environment.environment_int("DLKIT_TIMEOUT") or TIMEOUT
    try:
        distributed.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=fresh_store(rank, seconds),
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=seconds),
        )
    except RuntimeError as error:  # torch's DistError is one, too
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        abort(
            f"not all of {world_size} processes connected to {place} within {seconds} s: is every"
            " node up, and can it reach that one? DLKIT_TIMEOUT sets the seconds"
            f" ({first_line(error)})",
        )
    try:
        process = Process(rank, world_size, chosen)
        yield process
        process.barrier()  # no process leaves while another still communicates
    except RuntimeError as error:
        if not is_network_error(error):
            raise
        abort(
            "another process was lost, or did not answer within"
            f" {seconds} s (DLKIT_TIMEOUT): {first_line(error)}",
        )
    finally:
        distributed.destroy_process_group()


def set_master_address() -> None:
    """Set the address at which processes that srun started connect; torchrun sets it itself."""
    nodes = environment.environment_int("SLURM_STEP_NUM_NODES") or 1
    by_slurm = environment.environment_int("SLURM_STEP_NUM_TASKS") is not None
    if "MASTER_ADDR" not in os.environ and not by_slurm:
        raise DlkitError(
            "RANK and WORLD_SIZE are set, but not MASTER_ADDR, the address of the first process;"
            " start dlkit with torchrun or srun, or unset both"
        )
    if "MASTER_ADDR" not in os.environ and nodes > 1:
        raise DlkitError(
            f"on {nodes} nodes MASTER_ADDR must name the first:"
            " export MASTER_ADDR=$(scontrol show hostnames | head -n 1)"
        )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    # Each job has a port of its own: two jobs may share a node.
    job = environment.environment_int("SLURM_JOB_ID") or 0
    os.environ.setdefault("MASTER_PORT", str(20000 + job % 10000 if job else 29500))


def fresh_store(rank: int, seconds: int) -> TCPStore | None:
    """A store for this launch of the processes only; None if torch shall open one.

    torchrun keeps one store for all its restarts (torch 2.15), in which a process may find the
    addresses of earlier ones, and wait for them. So the main process opens a new store, and writes
    its port into torchrun's; a port of an earlier launch does not answer.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    patience = timedelta(seconds=seconds)
    agent = TCPStore(address, port, is_master=False, timeout=patience)
    key = f"dlkit/port/{next(groups_made)}"
    if rank == 0:
        own = TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=patience)
        agent.set(key, str(own.port))
        return own
    end = time.monotonic() + seconds
    while True:
        port = int(agent.get(key))
        try:
            socket.create_connection((address, port), seconds).close()
            return TCPStore(address, port, is_master=False, timeout=patience)
        except OSError as error:
            if time.monotonic() > end:
                raise distributed.DistNetworkError(str(error)) from error
            time.sleep(0.1)


def is_network_error(error: RuntimeError) -> bool:
    """Whether the error was raised because another process is lost or silent."""
    return isinstance(error, distributed.DistError) or any(
        part in str(error) for part in GLOO_ERRORS
    )


def abort(reason: str) -> NoReturn:
    """Print what went wrong between the processes, and exit."""
    print_error(reason)
    sys.exit(ExitStatus.REQUEUE)


def first_line(error: Exception) -> str:
    """The first line of an error's message, without the place in gloo's source before it."""
    return re.sub(r"^\[[^]]*\] *", "", str(error).strip()).partition("\n")[0]
