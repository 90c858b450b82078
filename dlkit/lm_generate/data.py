"""Batches of ids cut from the text to train on.

Shapes: N ids of the text, B windows or streams of a batch, T ids of each.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dlkit.core.errors import DlkitError
from dlkit.core.parallel.distributed import Process
from dlkit.lm_generate.config import STREAMED, LmTrainConfig

BENGIO_STEP = 64  # tokens of a stream that one step predicts


class Windows(IterableDataset[list[Tensor]]):
    """The batches of an epoch, for networks that see T tokens at once: ids and targets (B, T).

    A pass over the text cuts it in windows, each time at other places, in a random order that
    follows from the seed and the number of the pass. The batches of one epoch follow on those of
    the epoch before, wherever that ended.
    """

    def __init__(
        self, ids: np.ndarray, config: LmTrainConfig, process: Process, epoch: int
    ) -> None:
        self.ids, self.length = ids, window(config)
        if len(ids) <= self.length:
            raise DlkitError(too_short(ids, f"a window takes {self.length + 1}"))
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
        """Where the windows of a pass start, in the order in which they are seen."""
        random = np.random.default_rng([self.seed, number])
        spare = len(self.ids) - 1 - self.windows * self.length
        first = random.integers(0, min(spare, self.length - 1) + 1)
        starts: np.ndarray = first + self.length * random.permutation(self.windows)
        return starts


class Streams(IterableDataset[list[Tensor]]):
    """The batches of an epoch, for networks that carry a state: ids and targets (B, T).

    The text is cut in as many streams as a batch has rows; each row goes on where it ended in the
    batch before. Each pass starts at another token, so that the steps end at other places.
    """

    def __init__(
        self, ids: np.ndarray, config: LmTrainConfig, process: Process, epoch: int, length: int
    ) -> None:
        self.ids, self.length = ids, length
        self.batch, self.seed = config.batch_size, config.seed
        self.stream = (len(ids) - 1) // self.batch  # ids of each stream
        if self.stream < 1:
            raise DlkitError(too_short(ids, f"--batch-size {self.batch} streams take more"))
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


def window(config: LmTrainConfig) -> int:
    """Ids of the text that are seen at once: bert frames them with special tokens."""
    frame = {"bert": 3 if config.next_sentence else 2}.get(config.arch, 0)
    return max(config.context - frame, 1)


def ids_and_targets(ids: np.ndarray, starts: np.ndarray, length: int) -> list[Tensor]:
    """`length` ids from each start (B,), and the ids that follow each: two tensors (B, T)."""
    cut = torch.from_numpy(ids[starts[:, None] + np.arange(length + 1)].astype(np.int64))
    return [cut[:, :-1], cut[:, 1:]]


def batches(
    ids: np.ndarray, config: LmTrainConfig, process: Process, epoch: int
) -> DataLoader[list[Tensor]]:
    """The batches of an epoch, as the architecture takes them."""
    data: IterableDataset[list[Tensor]]
    if config.arch in STREAMED:
        length = BENGIO_STEP if config.arch == "bengio" else config.context
        data = Streams(ids, config, process, epoch, length)
    else:
        data = Windows(ids, config, process, epoch)
    return DataLoader(data, batch_size=None, pin_memory=process.device.type == "cuda")


def too_short(ids: np.ndarray, need: str) -> str:
    return (
        f"the text to train on has {len(ids)} tokens, but {need}: give more text,"
        " or a smaller --context or --batch-size"
    )
