"""GloVe (Pennington et al. 2014): word and context vectors whose products are log counts.

AdaGrad minimizes `loss.weighted_least_squares` one pair at a time, in threads that share the
parameters without locks; formulas, initial values and the gradient limit are those of glove.c. A
pair is stored once and trained in both directions at once: (i, j) changes i as word and j as
context, (j, i) the opposite, so the two updates are independent.

Shapes: N words, D dimensions, S = D rounded up so that a row fills whole vector registers.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.numba_tools import LANES, njit
from dlkit.core.parallel.sharding import SINGLE_PROCESS, AnyProcess
from dlkit.embed.config import ResolvedConfig
from dlkit.embed.cooccurrence import (
    BUCKET,
    COUNT,
    COUNTS_FILE,
    PAIR,
    count_cooccurrences,
    map_records,
    shuffle_pairs,
)

PAIRS_FILE = "pairs.bin"  # shuffled
MAX_GRADIENT = np.float32(100)
WORD, CONTEXT = 0, 1
VALUE, SQUARES = 0, 1
STEP = 16 * BUCKET  # pairs that the threads train on between two reports


@dataclass
class GloveState:
    """All that training changes: enough to resume from.

    The parameters of one word are adjacent, since a pair needs them all.
    """

    vectors: np.ndarray  # float32 (N, 2, 2, S): word and context; value and sum of squares
    biases: np.ndarray  # float32 (N, 2, 2), likewise
    epoch: int = 0
    done: int = 0  # pairs of this epoch
    cost: float = 0.0  # summed over these pairs

    @classmethod
    def start(cls, num_words: int, dim: int, seed: int) -> "GloveState":
        """Random values from -0.5 / (D + 1) to 0.5 / (D + 1), sums of squares of 1."""
        rng = np.random.default_rng(seed)
        padded = -(-dim // LANES) * LANES
        vectors = np.ones((num_words, 2, 2, padded), np.float32)
        biases = np.ones((num_words, 2, 2), np.float32)
        drawn = rng.random((num_words, 2, dim + 1), np.float32)
        drawn -= 0.5
        drawn /= dim + 1
        vectors[:, :, VALUE, :dim] = drawn[:, :, :dim]
        vectors[:, :, VALUE, dim:] = 0
        biases[:, :, VALUE] = drawn[:, :, dim]
        return cls(vectors, biases)

    def word_vectors(self, dim: int) -> np.ndarray:
        """Return word plus context vectors (N, D), as the paper advises in section 4.2."""
        sums: np.ndarray = self.vectors[:, :, VALUE, :dim].sum(axis=1)
        return sums


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def clip_gradient(gradient: np.float32, rate: np.float32) -> np.float32:
    return min(max(gradient, -MAX_GRADIENT), MAX_GRADIENT) * rate


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def train_pairs(
    pairs: np.ndarray,
    vectors: np.ndarray,
    biases: np.ndarray,
    x_max: float,
    alpha: float,
    lr: float,
) -> float:
    """Take one AdaGrad step per pair and direction; return the sum of their costs."""
    rate = np.float32(lr)
    size = vectors.shape[3]
    total = 0.0
    for k in range(len(pairs)):
        i, j = pairs[k]["i"], pairs[k]["j"]
        x = pairs[k]["x"]
        target = np.float32(np.log(x))
        weight = np.float32(1) if x > x_max else np.float32(np.exp(alpha * np.log(x / x_max)))
        rows, others = vectors[i], vectors[j]
        for direction in range(2):
            if direction == 1:
                if i == j:
                    break
                rows, others = others, rows
                i, j = j, i
            word, word_squares = rows[0, 0], rows[0, 1]
            context, context_squares = others[1, 0], others[1, 1]
            product = np.float32(0)
            for d in range(size):
                product += word[d] * context[d]
            difference = product + biases[i, 0, 0] + biases[j, 1, 0] - target
            slope = weight * difference
            total += 0.5 * slope * difference
            for d in range(size):
                w, c = word[d], context[d]
                change_w = clip_gradient(slope * c, rate)
                change_c = clip_gradient(slope * w, rate)
                word[d] = w - change_w / np.sqrt(word_squares[d])
                context[d] = c - change_c / np.sqrt(context_squares[d])
                word_squares[d] += change_w * change_w
                context_squares[d] += change_c * change_c
            change = clip_gradient(slope, rate)
            biases[i, 0, 0] -= change / np.sqrt(biases[i, 0, 1])
            biases[j, 1, 0] -= change / np.sqrt(biases[j, 1, 1])
            biases[i, 0, 1] += change * change
            biases[j, 1, 1] += change * change
    return total


def count_corpus(
    ids: np.ndarray,
    num_words: int,
    config: ResolvedConfig,
    threads: int,
    resuming: bool,
    process: AnyProcess = SINGLE_PROCESS,
) -> None:
    """Count the pairs of the text (see cooccurrence) in the run's folder, shared by all processes.

    A resumed run has them already.
    """
    pairs = config.out / PAIRS_FILE
    if resuming and pairs.exists():
        return
    if process.is_main:
        config.out.mkdir(parents=True, exist_ok=True)
        pairs.unlink(missing_ok=True)
    count_cooccurrences(ids, num_words, config.window, config.out, config.memory, threads, process)


def load_pairs(num_words: int, config: ResolvedConfig) -> np.ndarray:
    """Return the counted pairs in random order, from a file that replaces the counts."""
    path, counts = config.out / PAIRS_FILE, config.out / COUNTS_FILE
    if path.exists():
        return map_records(path, PAIR)
    pairs = shuffle_pairs(map_records(counts, COUNT), num_words, path, config.seed)
    counts.unlink()
    if not len(pairs):
        raise DlkitError("no line of the corpus holds two words; give running text")
    return pairs


def train_glove(
    pairs: np.ndarray,
    state: GloveState,
    config: ResolvedConfig,
    threads: int,
    on_progress: Callable[[GloveState], None],
) -> np.ndarray:
    """Train from `state` to the last epoch, and return the vectors (N, D).

    `on_progress` is called every STEP pairs and after each epoch, when `done` is the number of
    pairs. With one thread the result depends on the seed alone.
    """

    def work(part: np.ndarray) -> float:
        rates = (config.x_max, config.alpha, config.lr)
        return float(train_pairs(part, state.vectors, state.biases, *rates))

    with ThreadPoolExecutor(threads) as pool:
        while state.epoch < config.epochs:
            if state.done == len(pairs):
                state.epoch, state.done, state.cost = state.epoch + 1, 0, 0.0
                continue
            block = pairs[state.done : state.done + STEP]
            state.cost += sum(pool.map(work, np.array_split(block, threads)))
            state.done += len(block)
            on_progress(state)
    return state.word_vectors(config.dim)
