"""What the compiled loops of skip-gram, CBOW and fastText share: one step, and what is drawn.

A step takes all inputs of a position (the context words' vectors in skip-gram) and all outputs
(the word to predict with its negative words, or the inner nodes on its Huffman path) at once, a
product of two small matrices, as in pWord2Vec (Ji et al. 2016): the negative words of a position
serve all its inputs. Rows are padded to whole vectors of LANES numbers; the padding stays zero.

Weights are flat arrays; `at` and `outs` hold where their rows begin.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from dlkit.core.numba_tools import LANES, item, load, store, times, total, zeros
from dlkit.embed.corpus import LONGEST

GROUP = 6  # outputs that are worked on at once: their sums fill the registers
ROW = 8  # cells for the scores of an input with a group
NO_LOSS_OF = 63  # the loss is computed at one position of 64, as it takes logarithms

A = np.uint64(6364136223846793005)  # Knuth's linear congruential generator, MMIX
C = np.uint64(1442695040888963407)
HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)


class Draw(NamedTuple):
    """What decides which words are trained, and against which."""

    window: int
    negative: int  # 0 for hierarchical softmax
    keep: np.ndarray  # uint32 (N): share of a word's occurrences to train on, of 2^32
    alias: np.ndarray  # uint32 (2N): Walker's alias table of the negative words
    path_starts: np.ndarray  # int64 (N + 1), hierarchical softmax: where a word's path begins in
    nodes: np.ndarray  # int64: inner nodes, from the root on
    codes: np.ndarray  # float32: 0 or 1


class Scratch(NamedTuple):
    """A thread's own memory."""

    sentence: np.ndarray  # int32 (LONGEST)
    at: np.ndarray  # int64 (inputs)
    outs: np.ndarray  # int64 (outputs, filled up to whole groups)
    labels: np.ndarray  # float32 (outputs): 1 for what is to be predicted, else 0
    weights: np.ndarray  # float32 (outputs): how often each counts; 0 for what fills up
    scores: np.ndarray  # float32 (inputs x ROW)
    errors: np.ndarray  # float32 (inputs x dimensions): what the inputs are to change by
    mean: np.ndarray  # float32 (dimensions)
    stats: np.ndarray  # float64 (2): sum of losses, and of how many


def scratch(window: int, outputs: int, width: int) -> Scratch:
    inputs = 2 * window
    filled = outputs + GROUP + ROW
    return Scratch(
        np.zeros(LONGEST, np.int32),
        np.zeros(inputs, np.int64),
        np.zeros(filled, np.int64),
        np.zeros(filled, np.float32),
        np.zeros(filled, np.float32),
        np.zeros(inputs * ROW, np.float32),
        np.zeros(inputs * width, np.float32),
        np.zeros(width, np.float32),
        np.zeros(2),
    )


@njit(cache=True, nogil=True, inline="always")
def after(state):
    """The generator's next state; its upper half is random."""
    return state * A + C


@njit(cache=True, nogil=True)
def seeded(seed):
    """A state for a number, far from those of its neighbors (the end of MurmurHash3)."""
    state = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    state = (state ^ (state >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return state ^ (state >> np.uint64(33))


@njit(cache=True, nogil=True, inline="always")
def below(state, n):
    """A number from 0 to n - 1."""
    return np.int64((state >> HALF) * np.uint64(n) >> HALF)


@njit(cache=True, nogil=True, inline="always")
def drawn(alias, state):
    """A negative word: one random number is both the column of the alias table and the share."""
    scaled = (state >> HALF) * np.uint64(len(alias) >> 1)
    column = np.int64(scaled >> HALF)
    if (scaled & LOW) < np.uint64(alias[2 * column]):
        return column
    return np.int64(alias[2 * column + 1])


@njit(cache=True, nogil=True)
def alias_table(weights):
    """Walker's table (Vose 1991): column i gives i below alias[2i] / 2^32, else alias[2i + 1]."""
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
def subsampled(ids, i, end, keep, sentence, state):
    """The next sentence without the words left out: its length, where it ends, the state."""
    length = 0
    while i < end and ids[i] >= 0:
        word = ids[i]
        state = after(state)
        if (state >> HALF) <= np.uint64(keep[word]):
            sentence[length] = word
            length += 1
        i += 1
    return length, i + 1, state


@njit(cache=True, nogil=True)
def choose_outputs(word, draw, width, n, scratch, state):
    """Put a word and its negative words, or its Huffman path, after the n outputs there are."""
    outs, labels, weights = scratch.outs, scratch.labels, scratch.weights
    if draw.negative == 0:
        for k in range(draw.path_starts[word], draw.path_starts[word + 1]):
            outs[n] = draw.nodes[k] * width
            labels[n] = np.float32(1) - draw.codes[k]
            weights[n] = 1
            n += 1
        return n, state
    outs[n] = word * width
    labels[n] = 1
    weights[n] = 1
    n += 1
    for _ in range(draw.negative):
        state = after(state)
        other = drawn(draw.alias, state)
        outs[n] = other * width
        labels[n] = 0
        # As in word2vec.c, the word itself is no negative word.
        weights[n] = 1 if other != word else 0
        n += 1
    return n, state


@njit(cache=True, nogil=True)
def fill_up(n, empty, scratch):
    """Fill the outputs up to whole groups with an empty row that nothing changes."""
    while n % GROUP != 0:
        scratch.outs[n] = empty
        scratch.weights[n] = 0
        n += 1
    return n


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def sigmoid(x):
    """1 / (1 + e^-x) to 1e-6, as tanh by a quotient of polynomials (Eigen's), which vectorizes."""
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


@njit(cache=True, nogil=True)
def add_loss(scores, m, g, scratch):
    """-log sigmoid of the scores, negated where the label is 0, of one group."""
    for i in range(m):
        for k in range(GROUP):
            score = np.float64(scores[i * ROW + k])
            if scratch.labels[g + k] == 0:
                score = -score
            weight = scratch.weights[g + k]
            scratch.stats[0] += weight * np.log1p(np.exp(-abs(score))) - weight * min(score, 0.0)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def step(inputs, at, m, outputs, n, width, rate, into_inputs, with_loss, scratch):
    """One step of stochastic gradient descent on m inputs times n outputs (whole groups).

    With s the sigmoid of the score of input x and output o, o changes by the sum over inputs of
    rate (label - s) x, and x by the sum over outputs of rate (label - s) o: the gradients of
    `loss.negative_sampling` and `loss.hierarchical_softmax`. The changes of the inputs are added
    to them (`into_inputs`), or left in scratch.errors.
    """
    outs, scores, errors = scratch.outs, scratch.scores, scratch.errors
    for g in range(0, n, GROUP):
        o0, o1, o2 = outs[g], outs[g + 1], outs[g + 2]
        o3, o4, o5 = outs[g + 3], outs[g + 4], outs[g + 5]
        for i in range(m):
            row = at[i]
            s0, s1, s2, s3, s4, s5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
            for d in range(0, width, LANES):
                x = load(inputs, row + d)
                s0 = times(load(outputs, o0 + d), x, s0)
                s1 = times(load(outputs, o1 + d), x, s1)
                s2 = times(load(outputs, o2 + d), x, s2)
                s3 = times(load(outputs, o3 + d), x, s3)
                s4 = times(load(outputs, o4 + d), x, s4)
                s5 = times(load(outputs, o5 + d), x, s5)
            cell = i * ROW
            scores[cell] = total(s0)
            scores[cell + 1] = total(s1)
            scores[cell + 2] = total(s2)
            scores[cell + 3] = total(s3)
            scores[cell + 4] = total(s4)
            scores[cell + 5] = total(s5)
        if with_loss:
            add_loss(scores, m, g, scratch)
        for i in range(m):
            for k in range(ROW):
                cell = i * ROW + k
                error = item(scratch.labels, g + k) - sigmoid(item(scores, cell))
                scores[cell] = rate * item(scratch.weights, g + k) * error
        last = into_inputs and g + GROUP >= n
        for d in range(0, width, LANES):
            w0, w1, w2 = load(outputs, o0 + d), load(outputs, o1 + d), load(outputs, o2 + d)
            w3, w4, w5 = load(outputs, o3 + d), load(outputs, o4 + d), load(outputs, o5 + d)
            s0, s1, s2, s3, s4, s5 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
            for i in range(m):
                cell = i * ROW
                x = load(inputs, at[i] + d)
                error = zeros() if g == 0 else load(errors, i * width + d)
                s0 = times(x, item(scores, cell), s0)
                error = times(w0, item(scores, cell), error)
                s1 = times(x, item(scores, cell + 1), s1)
                error = times(w1, item(scores, cell + 1), error)
                s2 = times(x, item(scores, cell + 2), s2)
                error = times(w2, item(scores, cell + 2), error)
                s3 = times(x, item(scores, cell + 3), s3)
                error = times(w3, item(scores, cell + 3), error)
                s4 = times(x, item(scores, cell + 4), s4)
                error = times(w4, item(scores, cell + 4), error)
                s5 = times(x, item(scores, cell + 5), s5)
                error = times(w5, item(scores, cell + 5), error)
                if last:
                    # Loaded again, as the same word may be there twice.
                    store(inputs, at[i] + d, plus(load(inputs, at[i] + d), error))
                else:
                    store(errors, i * width + d, error)
            # Loaded again, as the same word may have been drawn twice.
            store(outputs, o0 + d, plus(load(outputs, o0 + d), s0))
            store(outputs, o1 + d, plus(load(outputs, o1 + d), s1))
            store(outputs, o2 + d, plus(load(outputs, o2 + d), s2))
            store(outputs, o3 + d, plus(load(outputs, o3 + d), s3))
            store(outputs, o4 + d, plus(load(outputs, o4 + d), s4))
            store(outputs, o5 + d, plus(load(outputs, o5 + d), s5))


@njit(cache=True, nogil=True, inline="always")
def plus(a, b):
    return times(a, np.float32(1), b)
