"""Skip-gram, CBOW and fastText on CPUs: threads that share the weights without locks.

As in word2vec.c the updates of two threads may collide, which is rare and harms little (Hogwild,
Niu et al. 2011). Text is dealt out in chunks; what is drawn in a chunk is seeded by its place and
its learning rate is a function of it, so with one thread the result depends on the seed alone.

Shapes: N words, D dimensions, W = D rounded up to whole vectors of LANES numbers, R rows of input.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dlkit.core.numba_tools import LANES, loading
from dlkit.embed import huffman
from dlkit.embed.cbow import cbow
from dlkit.embed.compiled import Draw, Scratch, alias_table, scratch
from dlkit.embed.config import EmbedTrainConfig, Method
from dlkit.embed.corpus import bounds
from dlkit.embed.fasttext import fasttext
from dlkit.embed.skipgram import skipgram

CHUNK = 10_000  # ids that a thread takes at a time
ROUND = 1.0  # seconds between two reports
NEGATIVE_POWER = 0.75  # of the words' frequencies
LEAST_RATE = 1e-4  # of the learning rate, in the end
MEMORY_LINE = 64  # bytes


@dataclass
class HogwildState:
    """All that training changes: what resuming needs, from one round to the next."""

    inputs: np.ndarray  # float32 (R * W)
    outputs: np.ndarray  # float32 ((N or inner nodes + 1) * W); the last row stays empty
    epoch: int = 0
    done: int = 0  # ids of this epoch
    losses: float = 0.0  # their sum, of some pairs in this epoch
    pairs: float = 0.0

    @classmethod
    def start(
        cls, rows: int, num_words: int, config: EmbedTrainConfig, widest: float
    ) -> "HogwildState":
        """Inputs of at most widest / D (word2vec.c 0.5, fastText, gensim 1), outputs of zeros."""
        rng = np.random.default_rng(config.seed)
        width = padded(config.dim)
        inputs = aligned(rows * width)
        matrix = inputs.reshape(rows, width)
        for first in range(0, rows, CHUNK):
            part = rng.random((min(CHUNK, rows - first), config.dim), np.float32)
            matrix[first : first + CHUNK, : config.dim] = (2 * part - 1) * (widest / config.dim)
        return cls(inputs, aligned((num_words + 1) * width))

    @property
    def loss(self) -> float:
        """The mean loss of a pair in this epoch."""
        return self.losses / max(self.pairs, 1)

    def matrix(self, dim: int) -> np.ndarray:
        """The inputs as rows (R, D)."""
        return self.inputs.reshape(-1, padded(dim))[:, :dim]


def padded(dim: int) -> int:
    return -(-dim // LANES) * LANES


def aligned(size: int) -> np.ndarray:
    """Zeros (float32) that begin with a line of the cache: rows then lie on the fewest lines."""
    spare = MEMORY_LINE // 4
    array = np.zeros(size + spare, np.float32)
    skipped = -array.ctypes.data // 4 % spare
    return array[skipped : skipped + size]


def sampling_tables(counts: np.ndarray, config: EmbedTrainConfig) -> Draw:
    """The tables of subsampling (Mikolov et al. 2013b, section 2.3, as in word2vec.c) and outputs.

    Of a word with the share f of the text, (sqrt(f / sample) + 1) sample / f are kept; negative
    words are drawn by count^0.75.
    """
    keep = np.ones(len(counts))
    if config.sample:
        share = counts / (config.sample * counts.sum())
        keep = np.minimum((np.sqrt(share) + 1) / share, 1)
    if config.hs:
        path = huffman.paths(counts)
        alias = np.zeros(0, np.uint32)
    else:
        path = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        alias = alias_table(counts**NEGATIVE_POWER)
    negative = 0 if config.hs else config.negative
    return Draw(config.window, negative, (keep * 0xFFFFFFFF).astype(np.uint32), alias, *path)


def train_hogwild(
    ids: np.ndarray,
    counts: np.ndarray,
    config: EmbedTrainConfig,
    state: HogwildState,
    threads: int,
    on_progress: Callable[[HogwildState], None],
    rows: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> None:
    """Train from `state` on to the last epoch.

    `rows` (int32) and `starts` are fastText's: word w is made of rows[starts[w] : starts[w + 1]].
    `on_progress` is called about once a second and after each epoch, when no thread is at work.
    """
    draw = sampling_tables(counts, config)
    width = padded(config.dim)
    longest = int(np.diff(draw.path_starts).max()) if config.hs else 1 + config.negative
    is_cbow = Method.cbow in {config.method, Method(config.fasttext_model)}
    if rows is None or starts is None:
        rows, starts = np.arange(len(counts), dtype=np.int32), np.arange(len(counts) + 1)
    weights = state.inputs, state.outputs, width
    chunks = bounds(ids, max(min(CHUNK, len(ids) // 100), 1000))

    def train_chunk(begin: int, end: int, rate: float, seed: int, own: Scratch) -> None:
        text = ids, begin, end
        drawing = draw, np.float32(rate), np.uint64(seed), own
        if config.method is Method.skipgram:
            skipgram(*text, *weights, *drawing)
        elif is_cbow:
            cbow(*text, *weights, rows, starts, *drawing)
        else:
            fasttext(*text, *weights, rows, starts, *drawing)

    def work(own: Scratch, chunk_numbers: Iterator[int], until: float) -> int:
        trained = 0
        while time.monotonic() < until:
            number = next(chunk_numbers, None)
            if number is None:
                break
            begin, end = int(chunks[number]), int(chunks[number + 1])
            progress = (state.epoch + begin / len(ids)) / config.epochs
            rate = config.lr * max(1 - progress, LEAST_RATE)
            train_chunk(begin, end, rate, seed_of(config.seed, state.epoch, number), own)
            trained += 1
        return trained

    own = [scratch(config.window, 2 * config.window * longest, width) for _ in range(threads)]
    with loading("the training loops", 15):
        train_chunk(0, 0, 0.0, 0, own[0])
    with ThreadPoolExecutor(threads) as pool:
        while state.epoch < config.epochs:
            if state.done == len(ids):
                state.epoch, state.done = state.epoch + 1, 0
                state.losses = state.pairs = 0.0
                continue
            first = int(np.searchsorted(chunks, state.done))
            numbers = iter(range(first, len(chunks) - 1))
            until = time.monotonic() + ROUND
            trained = sum(pool.map(lambda o: work(o, numbers, until), own))  # noqa: B023
            state.done = int(chunks[first + trained])
            for one in own:
                state.losses += float(one.stats[0])
                state.pairs += float(one.stats[1])
                one.stats[:] = 0
            on_progress(state)


def seed_of(seed: int, epoch: int, chunk: int) -> int:
    return (seed * 1_000_003 + epoch) * 4_294_967_311 + chunk & 0xFFFFFFFFFFFFFFFF
