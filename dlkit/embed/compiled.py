"""Compiled building blocks of skip-gram, CBOW and fastText: random numbers, sampling, one SGD step.

A step takes all inputs of a position (the context words' vectors in skip-gram) and all outputs
(the target word with its negative words, or the inner nodes on its Huffman path) at once, a product
of two small matrices, as in pWord2Vec (Ji et al. 2016): the inputs of a position share its negative
words. Rows are padded to whole vectors of LANES numbers; the padding stays zero.

Weights are flat arrays; `input_offsets` and `output_offsets` hold where their rows begin.

Functions that compute floats are inlined into the loop that calls them: a function of its own is
compiled twice, alone and for its caller, where constants change the order of sums. A run that
compiles calls the first, a run with cached code the second, and their last digits would differ.
"""

from typing import NamedTuple

import numpy as np

from dlkit.core.numba_tools import LANES, fma, item, load, njit, store, sum_lanes, zeros
from dlkit.embed.corpus import MAX_SENTENCE

GROUP = 6  # outputs computed at once: their sums fill the registers
SCORE_STRIDE = 8  # numbers reserved for the scores of an input with a group
LOSS_MASK = 63  # the loss takes logarithms, so only one position in 64 computes it

MULTIPLIER = np.uint64(6364136223846793005)  # Knuth's linear congruential generator, MMIX
INCREMENT = np.uint64(1442695040888963407)
HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)


class SamplingTables(NamedTuple):
    """Window, subsampling and the distribution of outputs: negative words or Huffman paths."""

    window: int
    negative: int  # 0 for hierarchical softmax
    keep: np.ndarray  # uint32 (N): share of a word's occurrences to train on, of 2^32
    alias: np.ndarray  # uint32 (2N): Walker's alias table of the negative words
    path_starts: np.ndarray  # int64 (N + 1), hierarchical softmax: where a word's path begins
    nodes: np.ndarray  # int64: inner nodes of all paths, each from the root on
    codes: np.ndarray  # float32: 0 or 1


class Scratch(NamedTuple):
    """The working memory of one thread."""

    sentence: np.ndarray  # int32 (MAX_SENTENCE)
    input_offsets: np.ndarray  # int64 (inputs)
    output_offsets: np.ndarray  # int64 (outputs, padded to whole groups)
    labels: np.ndarray  # float32 (outputs): 1 for the word or code to predict, else 0
    weights: np.ndarray  # float32 (outputs): weight of each in the loss; 0 for padding
    scores: np.ndarray  # float32 (inputs x SCORE_STRIDE)
    errors: np.ndarray  # float32 (inputs x dimensions): the change of each input
    mean: np.ndarray  # float32 (dimensions)
    stats: np.ndarray  # float64 (2): sum of losses, and number of pairs in it


def new_scratch(window: int, outputs: int, width: int) -> Scratch:
    inputs = 2 * window
    padded = outputs + GROUP + SCORE_STRIDE
    return Scratch(
        np.zeros(MAX_SENTENCE, np.int32),
        np.zeros(inputs, np.int64),
        np.zeros(padded, np.int64),
        np.zeros(padded, np.float32),
        np.zeros(padded, np.float32),
        np.zeros(inputs * SCORE_STRIDE, np.float32),
        np.zeros(inputs * width, np.float32),
        np.zeros(width, np.float32),
        np.zeros(2),
    )


@njit(cache=True, nogil=True, inline="always")
def next_state(state):
    """Advance the random number generator; use only the upper half of its state."""
    return state * MULTIPLIER + INCREMENT


@njit(cache=True, nogil=True)
def seed_state(seed):
    """Hash a seed to a generator state (MurmurHash3's finalizer): near seeds get distant states."""
    state = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    state = (state ^ (state >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return state ^ (state >> np.uint64(33))


@njit(cache=True, nogil=True, inline="always")
def random_below(state, n):
    """Return a random integer from 0 to n - 1."""
    return np.int64((state >> HALF) * np.uint64(n) >> HALF)


@njit(cache=True, nogil=True, inline="always")
def draw_negative(alias, state):
    """Draw a negative word: one random number picks the alias table's column and decides in it."""
    scaled = (state >> HALF) * np.uint64(len(alias) >> 1)
    column = np.int64(scaled >> HALF)
    if (scaled & LOW) < np.uint64(alias[2 * column]):
        return column
    return np.int64(alias[2 * column + 1])


@njit(cache=True, nogil=True)
def alias_table(weights):
    """Build Walker's alias table (Vose 1991) to sample in proportion to `weights`.

    Column i yields i with probability alias[2i] / 2^32, otherwise alias[2i + 1].
    """
    n = len(weights)
    scaled = weights * (n / weights.sum())
    alias = np.empty(2 * n, np.uint32)
    small = np.empty(n, np.int64)
    large = np.empty(n, np.int64)
    smalls = larges = 0
    for i in range(n):
        alias[2 * i] = np.uint32(0xFFFFFFFF)
        alias[2 * i + 1] = i
        if scaled[i] < 1:
            small[smalls] = i
            smalls += 1
        else:
            large[larges] = i
            larges += 1
    while smalls > 0 and larges > 0:
        smalls -= 1
        i = small[smalls]
        j = large[larges - 1]
        alias[2 * i] = np.uint32(scaled[i] * 4294967295.0)
        alias[2 * i + 1] = j
        scaled[j] -= 1 - scaled[i]
        if scaled[j] < 1:
            larges -= 1
            small[smalls] = j
            smalls += 1
    return alias


@njit(cache=True, nogil=True)
def read_sentence(ids, i, end, keep, sentence, state):
    """Copy the next sentence from ids[i:end], subsampled, to `sentence`.

    Returns its length, the index after its end and the generator's state.
    """
    length = 0
    while i < end and ids[i] >= 0:
        word = ids[i]
        state = next_state(state)
        if (state >> HALF) <= np.uint64(keep[word]):
            sentence[length] = word
            length += 1
        i += 1
    return length, i + 1, state


@njit(cache=True, nogil=True)
def append_outputs(word, tables, width, n, scratch, state):
    """Append a word and its negative words, or its Huffman path, to the n outputs so far.

    Returns the number of outputs and the generator's state.
    """
    output_offsets, labels, weights = scratch.output_offsets, scratch.labels, scratch.weights
    if tables.negative == 0:
        for k in range(tables.path_starts[word], tables.path_starts[word + 1]):
            output_offsets[n] = tables.nodes[k] * width
            labels[n] = np.float32(1) - tables.codes[k]
            weights[n] = 1
            n += 1
        return n, state
    output_offsets[n] = word * width
    labels[n] = 1
    weights[n] = 1
    n += 1
    for _ in range(tables.negative):
        state = next_state(state)
        other = draw_negative(tables.alias, state)
        output_offsets[n] = other * width
        labels[n] = 0
        # As in word2vec.c, the word itself never counts as a negative word.
        weights[n] = 1 if other != word else 0
        n += 1
    return n, state


@njit(cache=True, nogil=True)
def pad_outputs(n, empty, scratch):
    """Pad the outputs to whole groups with the all-zero row at `empty`, at weight 0."""
    while n % GROUP != 0:
        scratch.output_offsets[n] = empty
        scratch.weights[n] = 0
        n += 1
    return n


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def sigmoid(x):
    """1 / (1 + e^-x) to 1e-6, from Eigen's rational approximation of tanh, which vectorizes."""
    x = min(max(x * np.float32(0.5), np.float32(-9)), np.float32(9))
    y = x * x
    p = y * np.float32(-2.76076847742355e-16) + np.float32(2.00018790482477e-13)
    p = p * y + np.float32(-8.60467152213735e-11)
    p = p * y + np.float32(5.12229709037114e-08)
    p = p * y + np.float32(1.48572235717979e-05)
    p = p * y + np.float32(6.37261928875436e-04)
    p = p * y + np.float32(4.89352455891786e-03)
    q = y * np.float32(1.19825839466702e-06) + np.float32(1.18534705686654e-04)
    q = q * y + np.float32(2.26843463243900e-03)
    q = q * y + np.float32(4.89352518554385e-03)
    return np.float32(0.5) + np.float32(0.5) * x * p / q


@njit(cache=True, nogil=True, forceinline=True)
def add_loss(scores, m, g, scratch):
    """Add -log sigmoid of one group's scores, negated where the label is 0, to the statistics."""
    for i in range(m):
        for k in range(GROUP):
            score = np.float64(scores[i * SCORE_STRIDE + k])
            if scratch.labels[g + k] == 0:
                score = -score
            weight = scratch.weights[g + k]
            scratch.stats[0] += weight * np.log1p(np.exp(-abs(score))) - weight * min(score, 0.0)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", forceinline=True)
def step(inputs, input_offsets, m, outputs, n, width, rate, into_inputs, with_loss, scratch):
    """One step of stochastic gradient descent on m inputs times n outputs (whole groups).

    With s the sigmoid of the score of input x and output o, o changes by the sum over inputs of
    rate (label - s) x, and x by the sum over outputs of rate (label - s) o: the gradients of
    `loss.negative_sampling` and `loss.hierarchical_softmax`. With `into_inputs` the inputs are
    updated; otherwise their changes stay in scratch.errors.
    """
    output_offsets, scores, errors = scratch.output_offsets, scratch.scores, scratch.errors
    for g in range(0, n, GROUP):
        o0, o1, o2 = output_offsets[g], output_offsets[g + 1], output_offsets[g + 2]
        o3, o4, o5 = output_offsets[g + 3], output_offsets[g + 4], output_offsets[g + 5]
        for i in range(m):
            row = input_offsets[i]
            s0, s1, s2, s3, s4, s5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
            for d in range(0, width, LANES):
                x = load(inputs, row + d)
                s0 = fma(load(outputs, o0 + d), x, s0)
                s1 = fma(load(outputs, o1 + d), x, s1)
                s2 = fma(load(outputs, o2 + d), x, s2)
                s3 = fma(load(outputs, o3 + d), x, s3)
                s4 = fma(load(outputs, o4 + d), x, s4)
                s5 = fma(load(outputs, o5 + d), x, s5)
            cell = i * SCORE_STRIDE
            scores[cell] = sum_lanes(s0)
            scores[cell + 1] = sum_lanes(s1)
            scores[cell + 2] = sum_lanes(s2)
            scores[cell + 3] = sum_lanes(s3)
            scores[cell + 4] = sum_lanes(s4)
            scores[cell + 5] = sum_lanes(s5)
        if with_loss:
            add_loss(scores, m, g, scratch)
        for i in range(m):
            for k in range(SCORE_STRIDE):
                cell = i * SCORE_STRIDE + k
                error = item(scratch.labels, g + k) - sigmoid(item(scores, cell))
                scores[cell] = rate * item(scratch.weights, g + k) * error
        last = into_inputs and g + GROUP >= n
        for d in range(0, width, LANES):
            w0, w1, w2 = load(outputs, o0 + d), load(outputs, o1 + d), load(outputs, o2 + d)
            w3, w4, w5 = load(outputs, o3 + d), load(outputs, o4 + d), load(outputs, o5 + d)
            s0, s1, s2, s3, s4, s5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
            for i in range(m):
                cell = i * SCORE_STRIDE
                x = load(inputs, input_offsets[i] + d)
                error = zeros() if g == 0 else load(errors, i * width + d)
                s0 = fma(x, item(scores, cell), s0)
                error = fma(w0, item(scores, cell), error)
                s1 = fma(x, item(scores, cell + 1), s1)
                error = fma(w1, item(scores, cell + 1), error)
                s2 = fma(x, item(scores, cell + 2), s2)
                error = fma(w2, item(scores, cell + 2), error)
                s3 = fma(x, item(scores, cell + 3), s3)
                error = fma(w3, item(scores, cell + 3), error)
                s4 = fma(x, item(scores, cell + 4), s4)
                error = fma(w4, item(scores, cell + 4), error)
                s5 = fma(x, item(scores, cell + 5), s5)
                error = fma(w5, item(scores, cell + 5), error)
                if last:
                    # Loaded again, since the same word may occur twice.
                    store(
                        inputs, input_offsets[i] + d, add(load(inputs, input_offsets[i] + d), error)
                    )
                else:
                    store(errors, i * width + d, error)
            # Loaded again, since the same word may have been drawn twice.
            store(outputs, o0 + d, add(load(outputs, o0 + d), s0))
            store(outputs, o1 + d, add(load(outputs, o1 + d), s1))
            store(outputs, o2 + d, add(load(outputs, o2 + d), s2))
            store(outputs, o3 + d, add(load(outputs, o3 + d), s3))
            store(outputs, o4 + d, add(load(outputs, o4 + d), s4))
            store(outputs, o5 + d, add(load(outputs, o5 + d), s5))


@njit(cache=True, nogil=True, inline="always")
def add(a, b):
    return fma(a, np.float32(1), b)
