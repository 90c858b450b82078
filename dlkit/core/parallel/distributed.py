"""One process, or the many that torchrun or srun started: the same code runs in both."""

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
from typing import Any, TypeVar
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
# What gloo says of another process that is gone or silent; torch has no class for it.
GLOO = ("gloo", "Gloo", "Application timeout", "Connection closed by peer", "Timed out waiting")
groups_made = itertools.count()  # of the processes, in this one's life
TIMEOUT = 1800  # that the others are waited for, unless DLKIT_TIMEOUT says otherwise
MOST_AT_ONCE = 256  # results of each process that are exchanged together


@dataclass(frozen=True)
class Process:
    """This process among `world_size`, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device
    wrapped: WeakSet[DistributedDataParallel] = field(default_factory=WeakSet)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def parts(self, each: int, batch_size: int | None = None) -> tuple[range, int]:
        """Of a batch cut in `each` parts for every process: this one's parts, and how many of all.

        A DlkitError where `batch_size` samples do not go into as many equal parts.
        """
        of = each * self.world_size
        if batch_size is not None and batch_size % of:
            parts = f" x {each} parts each" if each > 1 else ""
            raise DlkitError(
                f"--batch-size {batch_size} does not divide over {self.world_size} processes{parts}"
            )
        return range(self.rank * each, (self.rank + 1) * each), of

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model on its device, in channels_last, its gradients averaged over processes."""
        model.to(self.device).to(memory_format=torch.channels_last)
        if self.world_size == 1 or not any(p.requires_grad for p in model.parameters()):
            return model
        ids = [self.device.index or 0] if self.device.type == "cuda" else None
        # Looking for unused parameters keeps the gradients where they are in the sums: else torch
        # orders them anew after the first step, and a resumed run rounds that step otherwise.
        in_order = self.device.type == "cpu"
        wrapped = DistributedDataParallel(model, device_ids=ids, find_unused_parameters=in_order)
        self.wrapped.add(wrapped)
        return wrapped

    def shard(self, model: nn.Module, blocks: Iterable[nn.Module]) -> nn.Module:
        """The model on its device, of which each process holds a share (FSDP2); it stays the same.

        So it is with gradients, which are averaged, and with what an optimizer keeps of each
        weight. The weights of a block are whole only while it computes, and one block at a time
        comes to the device whole: the model must fit in the memory of the host only. All processes
        must call it together from then on. One process alone holds all of it.
        """
        if self.world_size == 1:
            return model.to(self.device)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.world_size,))
        for part in (*blocks, model):
            fully_shard(part.to(self.device), mesh=mesh)
        return model

    def whole(self, value: Any) -> Any:
        """What a state_dict() holds, with the shares of sharded tensors put together.

        All processes must call it; the main one gets them, one after another on the CPU.
        """
        if isinstance(value, list):
            return [self.whole(item) for item in value]
        if isinstance(value, dict):
            return {name: self.whole(item) for name, item in value.items()}
        if not is_sharded(value):
            return value
        tensor = value.full_tensor()
        return tensor.cpu() if self.is_main else None

    def average_gradients(self, now: bool) -> None:
        """Whether the next backward pass averages over processes, or only adds up in each."""
        for wrapped in self.wrapped:
            wrapped.require_backward_grad_sync = now

    def mean(self, values: Tensor) -> Tensor:
        """The mean of these numbers over the processes, in each of them."""
        if self.world_size > 1:
            distributed.all_reduce(values)
            values = values / self.world_size
        return values

    @torch.no_grad()
    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the main one's buffers, such as the means of batch norm."""
        if self.world_size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """Every `world_size`-th item, from this process's rank on."""
        return itertools.islice(items, self.rank, None, self.world_size)

    def gather(self, results: Iterable[T], most: int = MOST_AT_ONCE) -> Iterator[T]:
        """What all processes made of their shares, in the order of the inputs, in each of them.

        They exchange results as they come, so many at a time: the first soon, no more than fit.
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
            count = min(2 * count, most)

    def barrier(self) -> None:
        if self.world_size > 1:
            distributed.barrier()


def is_sharded(value: Any) -> bool:
    """Whether this is a tensor of which each process has a share."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def shares_like(parameter: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer keeps of a parameter, with whole tensors sharded as the parameter is."""
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
    """Join the other processes, if there are any, seed this one, and leave in the end.

    Reads torchrun's RANK, LOCAL_RANK and WORLD_SIZE, else SLURM's; nccl on GPUs, gloo on CPUs.
    Exits with ExitStatus.REQUEUE and a line on stderr where the others do not come, or are lost.
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
    set_meeting_place()
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
            f"not all of {world_size} processes met at {place} within {seconds} s: is every node"
            f" up, and can it reach that one? DLKIT_TIMEOUT sets the seconds ({first_line(error)})",
        )
    try:
        process = Process(rank, world_size, chosen)
        yield process
        process.barrier()  # nobody hangs up while another still speaks
    except RuntimeError as error:
        if not of_the_network(error):
            raise
        abort(
            "another process was lost, or did not answer within"
            f" {seconds} s (DLKIT_TIMEOUT): {first_line(error)}",
        )
    finally:
        distributed.destroy_process_group()


def set_meeting_place() -> None:
    """Where processes that srun started meet; torchrun says it itself."""
    nodes = environment.environment_int("SLURM_STEP_NUM_NODES") or 1
    if "MASTER_ADDR" not in os.environ and nodes > 1:
        raise DlkitError(
            f"on {nodes} nodes MASTER_ADDR must name the first:"
            " export MASTER_ADDR=$(scontrol show hostnames | head -n 1)"
        )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    # A port of its own for each job: two may share a node.
    job = environment.environment_int("SLURM_JOB_ID") or 0
    os.environ.setdefault("MASTER_PORT", str(20000 + job % 10000 if job else 29500))


def fresh_store(rank: int, seconds: int) -> TCPStore | None:
    """A store of this start of the processes alone; None: torch opens one.

    torchrun has one store for all its restarts (torch 2.15): a process may find there the addresses
    of those before it, and wait for them. So the main process opens one anew, whose port the others
    find in torchrun's. Where they still find that of an earlier start, nobody answers.
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


def of_the_network(error: RuntimeError) -> bool:
    """Whether this was raised because another process is gone or silent."""
    return isinstance(error, distributed.DistError) or any(part in str(error) for part in GLOO)


def abort(why: str) -> None:
    """Say what went wrong between the processes, and exit."""
    print_error(why)
    sys.exit(ExitStatus.REQUEUE)


def first_line(error: Exception) -> str:
    """What an error says, without the place in gloo's source that it begins with."""
    return re.sub(r"^\[[^]]*\] *", "", str(error).strip()).partition("\n")[0]
