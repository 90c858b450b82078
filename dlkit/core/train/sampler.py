"""Sampling and seeding that do not depend on the number of processes.

Everything follows from numbers that name the place, such as (seed, epoch, batch, part): a run can
continue anywhere without a generator's state, and on another number of processes.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from dlkit.core.environment import STOP_SIGNALS, ignore_signals


def seed_of(*place: int) -> int:
    """A seed (64 bits) for that place, independent of those of its neighbors."""
    return int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=8).digest(), "little")


def weighted_parts(
    batch: list[int], tokens: Callable[[Sequence[int]], int], parts: range, num_parts: int
) -> Iterator[tuple[list[int], float]]:
    """Yield `parts` of a batch of `num_parts` parts, with the weights of their mean losses.

    With these weights the mean over all parts is that over all tokens. An empty part gets the
    batch's first sample with weight 0.
    """
    for part in parts:
        own = batch[part::num_parts]
        yield own or batch[:1], tokens(own) * num_parts / tokens(batch)


def seed_everything(*place: int, device: torch.device | None = None) -> None:
    """Seed the generators of Python and torch, on the CPU and on `device`."""
    seed = seed_of(*place)
    random.seed(seed)
    # Not torch.manual_seed(): it takes 0.3 ms where CUDA could be used and is not.
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device is not None and device.type == "mps":
        torch.mps.manual_seed(seed)


class BatchSampler(Sampler[list[int]]):
    """The batches of an epoch, as indices: the `parts` of each batch that this process computes.

    The batches follow from the seed and the epoch alone; each has `num_parts` parts, divided among
    all processes. Samples that do not fill a last batch are dropped, unless there is no other
    batch; then some are repeated, so that all parts have the same size.
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int, parts: Sequence[int], num_parts: int
    ) -> None:
        self.samples, self.seed = samples, seed
        self.parts, self.num_parts = parts, num_parts
        self.batch_size = min(batch_size, samples)
        self.epoch = 0
        self.first = 0  # the first batch to yield

    def __len__(self) -> int:
        return self.samples // self.batch_size * len(self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(self.samples, generator=generator).tolist()
        for number in range(self.first, self.samples // self.batch_size):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            while len(batch) % self.num_parts:
                batch += batch[: self.num_parts - len(batch) % self.num_parts]
            yield from (batch[part :: self.num_parts] for part in self.parts)


class SeededDataset(Dataset[Any]):
    """A data set whose augmentation of a sample follows from seed, epoch and index alone.

    It is the same in any process and after any other sample.
    """

    def __init__(self, data: Dataset[Any], seed: int) -> None:
        self.data, self.seed = data, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        seed_everything(self.seed, self.epoch, index)
        return self.data[index]

    def __getitems__(self, indices: list[int]) -> Any:
        """A batch, computed at once where the data supports it."""
        if not hasattr(self.data, "__getitems__"):
            return [self[index] for index in indices]
        seed_everything(self.seed, self.epoch, indices[0])
        return self.data.__getitems__(indices)


def ignore_stop_signals(number: int) -> None:
    """Ignore signals that ask for the end in a loader's worker, whose batch is still needed."""
    ignore_signals(STOP_SIGNALS)
