"""One process, or the many that torchrun or srun started: the same code runs in both."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from dlkit.core.device import choose

T = TypeVar("T")
MISSING = object()


@dataclass(frozen=True)
class Process:
    """This process among `world_size`, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model on its device, in channels_last, its gradients averaged over processes."""
        model.to(self.device).to(memory_format=torch.channels_last)
        if self.world_size == 1:
            return model
        ids = [self.device.index or 0] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """Every `world_size`-th item, from this process's rank on."""
        return islice(items, self.rank, None, self.world_size)

    def gather(self, results: Iterable[T]) -> Iterator[T]:
        """What all processes made of their shares, in the order of the inputs, in each of them."""
        if self.world_size == 1:
            yield from results
            return
        shares: list[Any] = [None] * self.world_size
        distributed.all_gather_object(shares, list(results))
        for round_ in zip_longest(*shares, fillvalue=MISSING):
            yield from (item for item in round_ if item is not MISSING)

    def barrier(self) -> None:
        if self.world_size > 1:
            distributed.barrier()


def environment(*names: str) -> int | None:
    """The first of these environment variables that is set, as a number."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), None)


@contextmanager
def launch(device: str, seed: int = 0) -> Iterator[Process]:
    """Join the other processes, if there are any, seed this one, and leave in the end.

    Reads torchrun's RANK, LOCAL_RANK and WORLD_SIZE, else SLURM's; nccl on GPUs, gloo on CPUs.
    """
    rank = environment("RANK", "SLURM_PROCID") or 0
    # SLURM_NTASKS is set in a batch script too, where only one process runs.
    world_size = environment("WORLD_SIZE", "SLURM_STEP_NUM_TASKS") or 1
    chosen = choose(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    seed_everything(seed)
    if world_size == 1:
        yield Process(0, 1, chosen)
        return
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    distributed.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world_size
    )
    try:
        yield Process(rank, world_size, chosen)
    finally:
        distributed.destroy_process_group()


def seed_everything(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
