"""Skip-gram, CBOW and fastText on CPUs: threads that share the weights without locks.

As in word2vec.c the updates of two threads may collide, which is rare and does little harm
(Hogwild, Niu et al. 2011). Threads take the text in chunks; a chunk's position determines its seed
and its learning rate, so with one thread the result depends on the seed alone.

Shapes: N words, D dimensions, W = D rounded up to whole vectors of LANES numbers, R rows of input.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dlkit.core.numba_tools import LANES, compile_notice
from dlkit.embed.cbow import train_cbow
from dlkit.embed.compiled import SamplingTables, Scratch, alias_table, new_scratch
from dlkit.embed.config import EmbedMethod, ResolvedConfig
from dlkit.embed.data import chunk_bounds
from dlkit.embed.fasttext import train_fasttext
from dlkit.embed.huffman import huffman_paths
from dlkit.embed.sampling import NEGATIVE_POWER, keep_probabilities, learning_rate
from dlkit.embed.skipgram import train_skipgram

CHUNK = 10_000  # ids that a thread takes at a time
REPORT_INTERVAL = 1.0  # seconds
CACHE_LINE = 64  # bytes


@dataclass
class HogwildState:
    """All that training changes, between two chunks: enough to resume from."""

    inputs: np.ndarray  # float32 (R * W)
    outputs: np.ndarray  # float32 ((N or inner nodes + 1) * W); the last row stays zero
    epoch: int = 0
    done: int = 0  # ids of this epoch
    losses: float = 0.0  # summed over some pairs of this epoch
    pairs: float = 0.0  # number of these pairs

    @classmethod
    def start(
        cls, rows: int, num_words: int, config: ResolvedConfig, widest: float
    ) -> "HogwildState":
        """Inputs of at most widest / D (word2vec.c 0.5, fastText, gensim 1), outputs of zeros."""
        rng = np.random.default_rng(config.seed)
        width = padded_width(config.dim)
        inputs = aligned_zeros(rows * width)
        matrix = inputs.reshape(rows, width)
        for first in range(0, rows, CHUNK):
            part = rng.random((min(CHUNK, rows - first), config.dim), np.float32)
            matrix[first : first + CHUNK, : config.dim] = (2 * part - 1) * (widest / config.dim)
        return cls(inputs, aligned_zeros((num_words + 1) * width))

    @property
    def loss(self) -> float:
        """The mean loss of a pair in this epoch."""
        return self.losses / max(self.pairs, 1)

    def matrix(self, dim: int) -> np.ndarray:
        """Return the inputs as rows (R, D)."""
        return self.inputs.reshape(-1, padded_width(dim))[:, :dim]


def padded_width(dim: int) -> int:
    return -(-dim // LANES) * LANES


def aligned_zeros(size: int) -> np.ndarray:
    """Zeros (float32) aligned to cache lines, so that each row occupies the fewest lines."""
    spare = CACHE_LINE // 4
    array = np.zeros(size + spare, np.float32)
    skipped = -array.ctypes.data // 4 % spare
    return array[skipped : skipped + size]


def sampling_tables(counts: np.ndarray, config: ResolvedConfig) -> SamplingTables:
    """Build the tables of subsampling (Mikolov et al. 2013b, section 2.3) and of outputs.

    As in word2vec.c, a word with the share f of the text keeps (sqrt(f / sample) + 1) sample / f of
    its occurrences; negative words are drawn in proportion to count^0.75.
    """
    keep = keep_probabilities(counts, config.sample)
    if config.hs:
        path = huffman_paths(counts)
        alias = np.zeros(0, np.uint32)
    else:
        path = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        alias = alias_table(counts**NEGATIVE_POWER)
    negative = 0 if config.hs else config.negative
    keep_of_2_32 = (keep * 0xFFFFFFFF).astype(np.uint32)
    return SamplingTables(config.window, negative, keep_of_2_32, alias, *path)


def train_hogwild(
    ids: np.ndarray,
    counts: np.ndarray,
    config: ResolvedConfig,
    state: HogwildState,
    threads: int,
    on_progress: Callable[[HogwildState], None],
    rows: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> None:
    """Train from `state` to the last epoch.

    `rows` (int32) and `starts` are for fastText: word w has the rows[starts[w] : starts[w + 1]].
    `on_progress` is called about once a second and after each epoch, when no thread is at work.
    """
    tables = sampling_tables(counts, config)
    width = padded_width(config.dim)
    longest = int(np.diff(tables.path_starts).max()) if config.hs else 1 + config.negative
    is_cbow = EmbedMethod.cbow in {config.method, EmbedMethod(config.fasttext_model)}
    if rows is None or starts is None:
        rows, starts = np.arange(len(counts), dtype=np.int32), np.arange(len(counts) + 1)
    weights = state.inputs, state.outputs, width
    bounds = chunk_bounds(ids, max(min(CHUNK, len(ids) // 100), 1000))

    def train_chunk(begin: int, end: int, rate: float, seed: int, scratch: Scratch) -> None:
        text = ids, begin, end
        sampling = tables, np.float32(rate), np.uint64(seed), scratch
        if config.method is EmbedMethod.skipgram:
            train_skipgram(*text, *weights, *sampling)
        elif is_cbow:
            train_cbow(*text, *weights, rows, starts, *sampling)
        else:
            train_fasttext(*text, *weights, rows, starts, *sampling)

    def work(scratch: Scratch, chunks: Iterator[int], until: float) -> int:
        trained = 0
        while time.monotonic() < until:
            chunk = next(chunks, None)
            if chunk is None:
                break
            begin, end = int(bounds[chunk]), int(bounds[chunk + 1])
            rate = learning_rate(config, state.epoch + begin / len(ids))
            train_chunk(begin, end, rate, chunk_seed(config.seed, state.epoch, chunk), scratch)
            trained += 1
        return trained

    scratches = [
        new_scratch(config.window, 2 * config.window * longest, width) for _ in range(threads)
    ]
    with compile_notice("the training loops", 15):
        train_chunk(0, 0, 0.0, 0, scratches[0])
    with ThreadPoolExecutor(threads) as pool:
        while state.epoch < config.epochs:
            if state.done == len(ids):
                state.epoch, state.done = state.epoch + 1, 0
                state.losses = state.pairs = 0.0
                continue
            first = int(np.searchsorted(bounds, state.done))
            chunks = iter(range(first, len(bounds) - 1))
            until = time.monotonic() + REPORT_INTERVAL
            trained = sum(pool.map(lambda s: work(s, chunks, until), scratches))  # noqa: B023
            state.done = int(bounds[first + trained])
            for scratch in scratches:
                state.losses += float(scratch.stats[0])
                state.pairs += float(scratch.stats[1])
                scratch.stats[:] = 0
            on_progress(state)


def chunk_seed(seed: int, epoch: int, chunk: int) -> int:
    return (seed * 1_000_003 + epoch) * 4_294_967_311 + chunk & 0xFFFFFFFFFFFFFFFF
