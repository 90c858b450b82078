"""The text to train on as one memory-mapped file of ids, and batches cut from it.

Shapes: N ids of the text, B windows or streams of a batch, T ids of each.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dlkit.core import text as reading
from dlkit.core.distributed import Process
from dlkit.core.errors import DlkitError
from dlkit.core.output import whole_file
from dlkit.core.progress import Bar, log
from dlkit.lm_generate.config import LEARNT, STREAMED, LmTrainConfig
from dlkit.lm_generate.units import Units

PARTS = ("training", "validation")
LONGEST_LINE = 1 << 16  # bytes that the text is not cut at the end of a line for
BENGIO_STEP = 64  # tokens of a stream that one step predicts


@dataclass(frozen=True)
class Corpus:
    """The ids of the text (N,) to train and to validate on, mapped from the run's folder."""

    units: Units
    training: np.ndarray
    validation: np.ndarray


def prepared(config: LmTrainConfig, process: Process, units: Units | None) -> Corpus:
    """The corpus of a run: made by its first process, or in its folder where the run goes on.

    `units` are those of the model that the training starts from, if it does.
    """
    described = config.out / "tokens.json"
    if process.is_main and not (config.resume and described.exists()):
        write_tokens(config, units)
    process.barrier()
    return read_tokens(config.out)


def write_tokens(config: LmTrainConfig, units: Units | None) -> None:
    """Read the text, learn its units if they are to be learnt, and write its ids."""
    text = Text(config)
    if units is None:
        units = units_of(config, text)
    dtype = np.uint16 if units.size <= 1 << 16 else np.uint32
    counts = {}
    for part in PARTS:
        with whole_file(config.out / f"{part}.bin") as partial, partial.open("wb") as file:
            counts[part] = 0
            for ids in text.ids(part, units, config.workers):
                ids.astype(dtype).tofile(file)
                counts[part] += len(ids)
    log(f"{counts['training']} tokens to train on, {counts['validation']} to validate")
    about = {"dtype": np.dtype(dtype).name, "tokens": counts, "tokenizer": units.to_settings()}
    with whole_file(config.out / "tokens.json") as partial:
        partial.write_text(json.dumps(about))


def read_tokens(folder: Path) -> Corpus:
    """What `write_tokens` wrote."""
    about = json.loads((folder / "tokens.json").read_text())
    dtype = np.dtype(about["dtype"])
    mapped = []
    for part in PARTS:
        path, count = folder / f"{part}.bin", about["tokens"][part]
        try:
            # Nothing cannot be mapped.
            mapped.append(np.memmap(path, dtype, "r", shape=(count,)) if count else np.zeros(0))
        except (OSError, ValueError) as error:
            raise DlkitError(f"{path}: missing or damaged; train again in another --out") from error
    return Corpus(Units.from_settings(about["tokenizer"]), *mapped)


def units_of(config: LmTrainConfig, text: "Text") -> Units:
    """The units that `--tokenizer` names, learnt from the text to train on if need be."""
    if config.tokenizer not in LEARNT:
        return Units.named(config.tokenizer)
    blocks = (block for _, block in text.blocks("training"))
    return Units.learn(blocks, config.tokenizer, config.vocab_size, config.arch, config.lower)


class Text:
    """The files of a corpus, to be read more than once; stdin is kept in the run's folder.

    Without a validation text of its own, the last share of all bytes is held out, cut where a
    line ends.
    """

    def __init__(self, config: LmTrainConfig) -> None:
        files = reading.files(config.data)
        self.sources = [spooled(config.out) if source == "-" else source for source in files]
        self.held_out = reading.files(config.val)
        total = sum(map(unpacked_size, self.sources))
        if total == 0:
            raise DlkitError(f"{', '.join(config.data)}: no text in it")
        self.cut = total if config.val else total - int(total * config.val_share)

    def blocks(self, part: str) -> Iterator[tuple[bool, str]]:
        """The text of a part in blocks of whole lines, and whether a file begins with it."""
        separate = part == "validation" and self.held_out
        sources = self.held_out if separate else self.sources
        bar = Bar(f"reading {part}", reading.size(sources), unit="bytes")
        start = 0  # of the block in all the text
        try:
            for source in sources:
                begins = True
                for block in reading.blocks(source, on_read=lambda n: bar.advance(by=n)):
                    at = len(block) if separate else cut_at(block, self.cut - start)
                    start += len(block)
                    mine = block[:at] if part == "training" or separate else block[at:]
                    if mine:
                        yield begins, mine.decode()
                        begins = False
        finally:
            bar.close()

    def ids(self, part: str, units: Units, workers: int) -> Iterator[np.ndarray]:
        """The ids of a part; each file begins with the token for that, if there is one."""
        for begins, block in self.blocks(part):
            if begins and units.begin is not None:
                yield np.array([units.begin])
            yield from units.encode_blocks([block], workers)


def spooled(folder: Path) -> str:
    """All of stdin in a file: it is read once to learn the units, and once to use them."""
    path = folder / "stdin.txt"
    with whole_file(path) as partial, partial.open("wb") as file:
        shutil.copyfileobj(reading.binary(sys.stdin), file)
    return str(path)


def unpacked_size(source: str) -> int:
    if source.endswith(reading.PACKED):
        return sum(map(len, reading.blocks(source)))
    return reading.size([source]) or 0


def cut_at(block: bytes, place: int) -> int:
    """Where a block is cut for a cut at `place`: after that line, or, if it is long, character."""
    if not 0 < place < len(block):
        return min(max(place, 0), len(block))
    line = block.find(b"\n", place - 1, place + LONGEST_LINE) + 1
    if line:
        return line
    while place < len(block) and block[place] & 0xC0 == 0x80:  # inside a character
        place += 1
    return place


class Windows(IterableDataset[list[Tensor]]):
    """The batches of an epoch, for networks that see T tokens at once: ids and targets (B, T).

    A pass over the text cuts it in windows, each time at other places, in a random order that
    follows from the seed and the number of the pass. The batches of one epoch follow on those of
    the epoch before, wherever that ended.
    """

    def __init__(
        self, ids: np.ndarray, config: LmTrainConfig, process: Process, epoch: int
    ) -> None:
        self.ids, self.length = ids, config.context
        if len(ids) <= self.length:
            raise DlkitError(too_short(ids, f"a window takes {self.length + 1}"))
        self.windows = max(1, (len(ids) - 1) // self.length - 1)
        self.batch, self.seed = config.batch_size, config.seed
        self.steps = config.steps_per_epoch or max(1, self.windows // self.batch)
        self.rank, self.world_size = process.rank, process.world_size
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Tensor]]:
        current, starts = -1, np.zeros(0, np.int64)
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            numbers = np.arange(step * self.batch, (step + 1) * self.batch)
            chosen = []
            for number in numbers[self.rank :: self.world_size].tolist():
                if number // self.windows != current:
                    current = number // self.windows
                    starts = self.starts(current)
                chosen.append(starts[number % self.windows])
            yield ids_and_targets(self.ids, np.array(chosen), self.length)

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
        self.rows = np.arange(self.batch)[process.rank :: process.world_size]
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Tensor]]:
        spare = self.stream - self.steps_of_pass * self.length
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            number, place = divmod(step, self.steps_of_pass)
            random = np.random.default_rng([self.seed, number])
            first = int(random.integers(0, min(spare, self.length - 1) + 1))
            starts = self.rows * self.stream + first + place * self.length
            yield ids_and_targets(self.ids, starts, self.length)


def ids_and_targets(ids: np.ndarray, starts: np.ndarray, length: int) -> list[Tensor]:
    """`length` ids from each start (B,), and the ids that follow each: two tensors (B, T)."""
    cut = torch.from_numpy(ids[starts[:, None] + np.arange(length + 1)].astype(np.int64))
    return [cut[:, :-1], cut[:, 1:]]


def batches(
    ids: np.ndarray, config: LmTrainConfig, process: Process, epoch: int
) -> DataLoader[list[Tensor]]:
    """The batches of an epoch, as the architecture takes them."""
    if config.batch_size % process.world_size:
        raise DlkitError(
            f"--batch-size {config.batch_size} does not divide over {process.world_size} processes"
        )
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
