"""Which samples a step sees and which random numbers it draws, however many processes there are.

Everything follows from numbers that name the place, such as (seed, epoch, batch, part): a run can
go on anywhere without a generator's state, and on another number of processes.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from dlkit.core.environment import ignore_signals


def seed_of(*place: int) -> int:
    """A seed (64 bits) for that place; those of neighbors have nothing in common."""
    return int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=8).digest(), "little")


def weighted_parts(
    batch: list[int], tokens: Callable[[Sequence[int]], int], parts: range, of: int
) -> Iterator[tuple[list[int], float]]:
    """Some `parts` of a batch that is cut in `of`, and the weights of their mean losses.

    By these the mean over all parts is that of all tokens. Where there is nothing for a part, the
    batch's first stands in, and counts for nothing.
    """
    for part in parts:
        own = batch[part::of]
        yield own or batch[:1], tokens(own) * of / tokens(batch)


def seed_everything(*place: int, device: torch.device | None = None) -> None:
    """Seed Python's numbers and torch's, on the CPU and on `device`."""
    seed = seed_of(*place)
    random.seed(seed)
    # Not torch.manual_seed(): it takes 0.3 ms where CUDA could be used and is not.
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device is not None and device.type == "mps":
        torch.mps.manual_seed(seed)


class BatchSampler(Sampler[list[int]]):
    """The batches of an epoch, as indices: of each batch those `parts` that are this process's.

    The batches follow from the seed and the epoch alone; each is cut in `of` parts, which all
    processes together go through. Samples that do not fill a last batch are left out, unless they
    are all there are; then some count twice, so that all parts have as many.
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int, parts: Sequence[int], of: int
    ) -> None:
        self.samples, self.seed, self.parts, self.of = samples, seed, parts, of
        self.batch_size = min(batch_size, samples)
        self.epoch = 0
        self.first = 0  # batch to begin with

    def __len__(self) -> int:
        return self.samples // self.batch_size * len(self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(self.samples, generator=generator).tolist()
        for number in range(self.first, self.samples // self.batch_size):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            while len(batch) % self.of:
                batch += batch[: self.of - len(batch) % self.of]
            yield from (batch[part :: self.of] for part in self.parts)


class SeededDataset(Dataset[Any]):
    """The data, whose random changes of a sample follow from seed, epoch and index alone.

    They are the same in whichever process and after whichever other sample it is made.
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
        """A batch: made at once by data that can do that."""
        if not hasattr(self.data, "__getitems__"):
            return [self[index] for index in indices]
        seed_everything(self.seed, self.epoch, indices[0])
        return self.data.__getitems__(indices)


def ignore_preemption_signals(number: int) -> None:
    """For workers of a loader: a scheduler signals them too, and the batch is still wanted."""
    ignore_signals()
