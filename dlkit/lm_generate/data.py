"""Batches of ids, cut from the training text.

Shapes: N ids of the text, B windows or streams of a batch, T ids of each.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dlkit.core.errors import DlkitError
from dlkit.core.parallel.distributed import Process
from dlkit.lm_generate.config import LmTrainConfig


class Windows(IterableDataset[list[Tensor]]):
    """Batches of an epoch for networks that read windows: ids and targets (B, T).

    Each pass over the text cuts it in windows at other places, in a random order that depends on
    the seed and the number of the pass. An epoch continues the pass where the epoch before ended.
    """

    def __init__(
        self, ids: np.ndarray, config: LmTrainConfig, process: Process, epoch: int, length: int
    ) -> None:
        self.ids, self.length = ids, length
        if len(ids) <= self.length:
            raise DlkitError(too_short(ids, f"a window needs {self.length + 1}"))
        self.windows = max(1, (len(ids) - 1) // self.length - 1)
        self.batch, self.seed = config.batch_size, config.seed
        self.steps = config.steps_per_epoch or max(1, self.windows // self.batch)
        self.parts, self.of = process.parts(config.accumulate, self.batch)
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * len(self.parts)

    def __iter__(self) -> Iterator[list[Tensor]]:
        current, starts = -1, np.zeros(0, np.int64)
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            chosen = []
            for number in range(step * self.batch, (step + 1) * self.batch):
                if number // self.windows != current:
                    current = number // self.windows
                    starts = self.starts(current)
                chosen.append(starts[number % self.windows])
            for part in self.parts:
                yield ids_and_targets(self.ids, np.array(chosen[part :: self.of]), self.length)

    def starts(self, number: int) -> np.ndarray:
        """Starts of the windows of a pass, in the order in which they are read."""
        random = np.random.default_rng([self.seed, number])
        spare = len(self.ids) - 1 - self.windows * self.length
        first = random.integers(0, min(spare, self.length - 1) + 1)
        starts: np.ndarray = first + self.length * random.permutation(self.windows)
        return starts


class Streams(IterableDataset[list[Tensor]]):
    """Batches of an epoch for networks that carry a state: ids and targets (B, T).

    The text is cut in as many streams as a batch has rows; each row continues where it ended in
    the batch before. Each pass starts at another token, so that the steps end at other places.
    """

    def __init__(
        self, ids: np.ndarray, config: LmTrainConfig, process: Process, epoch: int, length: int
    ) -> None:
        self.ids, self.length = ids, length
        self.batch, self.seed = config.batch_size, config.seed
        self.stream = (len(ids) - 1) // self.batch  # ids of each stream
        if self.stream < 1:
            raise DlkitError(too_short(ids, f"--batch-size {self.batch} streams need more"))
        self.length = min(length, self.stream)
        self.steps_of_pass = max(1, self.stream // self.length - 1)
        self.steps = config.steps_per_epoch or self.steps_of_pass
        self.parts, self.of = process.parts(config.accumulate, self.batch)
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * len(self.parts)

    def __iter__(self) -> Iterator[list[Tensor]]:
        spare = self.stream - self.steps_of_pass * self.length
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            number, place = divmod(step, self.steps_of_pass)
            random = np.random.default_rng([self.seed, number])
            first = int(random.integers(0, min(spare, self.length - 1) + 1))
            starts = np.arange(self.batch) * self.stream + first + place * self.length
            for part in self.parts:
                yield ids_and_targets(self.ids, starts[part :: self.of], self.length)


def ids_and_targets(ids: np.ndarray, starts: np.ndarray, length: int) -> list[Tensor]:
    """`length` ids from each start (B,), and the ids after each: two tensors (B, T)."""
    cut = torch.from_numpy(ids[starts[:, None] + np.arange(length + 1)].astype(np.int64))
    return [cut[:, :-1], cut[:, 1:]]


def loader(data: IterableDataset[list[Tensor]], process: Process) -> DataLoader[list[Tensor]]:
    """The batches of a dataset that makes them itself."""
    return DataLoader(data, batch_size=None, pin_memory=process.device.type == "cuda")


def too_short(ids: np.ndarray, need: str) -> str:
    return (
        f"the training text has {len(ids)} tokens, but {need}; give more text,"
        " or a smaller --context or --batch-size"
    )
