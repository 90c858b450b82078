"""CBOW (Mikolov et al. 2013): each word is predicted from the mean of the vectors near it.

As in word2vec.c (cbow_mean) and fastText, each vector of the mean takes the mean's whole change,
not its share. `rows[starts[w] : starts[w + 1]]` are the rows that make up a word's vector: its own,
and in fastText's CBOW also those of its n-grams, all of which count alike in the mean.
"""

import numpy as np
from numba import njit

from dlkit.core.numba_tools import LANES, load, store, times, zeros
from dlkit.embed.compiled import (
    NO_LOSS_OF,
    after,
    below,
    choose_outputs,
    fill_up,
    plus,
    seeded,
    step,
    subsampled,
)


@njit(cache=True, nogil=True)
def start_mean(width, scratch):
    for d in range(0, width, LANES):
        store(scratch.mean, d, zeros())


@njit(cache=True, nogil=True)
def add_to_mean(word, inputs, width, rows, starts, scratch):
    for k in range(starts[word], starts[word + 1]):
        row = np.int64(rows[k]) * width
        for d in range(0, width, LANES):
            store(scratch.mean, d, plus(load(inputs, row + d), load(scratch.mean, d)))


@njit(cache=True, nogil=True)
def divide_mean(count, width, scratch):
    share = np.float32(1 / count)
    for d in range(0, width, LANES):
        store(scratch.mean, d, times(load(scratch.mean, d), share, zeros()))


@njit(cache=True, nogil=True)
def change_rows(word, inputs, width, rows, starts, scratch):
    """Add the errors of the mean to a word's rows."""
    for k in range(starts[word], starts[word + 1]):
        row = np.int64(rows[k]) * width
        for d in range(0, width, LANES):
            store(inputs, row + d, plus(load(scratch.errors, d), load(inputs, row + d)))


@njit(cache=True, nogil=True)
def cbow(ids, begin, end, inputs, outputs, width, rows, starts, draw, rate, seed, scratch):
    """Train on the sentences of ids[begin:end] at one learning rate."""
    state = seeded(seed)
    sentence, stats = scratch.sentence, scratch.stats
    scratch.at[0] = 0
    empty = len(outputs) - width
    i = begin
    while i < end:
        length, i, state = subsampled(ids, i, end, draw.keep, sentence, state)
        for position in range(length):
            state = after(state)
            reach = 1 + below(state, draw.window)
            first, last = max(position - reach, 0), min(position + reach + 1, length)
            if last - first < 2:
                continue
            count = 0
            start_mean(width, scratch)
            for near in range(first, last):
                if near != position:
                    word = sentence[near]
                    add_to_mean(word, inputs, width, rows, starts, scratch)
                    count += starts[word + 1] - starts[word]
            divide_mean(count, width, scratch)
            n, state = choose_outputs(sentence[position], draw, width, 0, scratch, state)
            n = fill_up(n, empty, scratch)
            with_loss = position & NO_LOSS_OF == 0
            step(scratch.mean, scratch.at, 1, outputs, n, width, rate, False, with_loss, scratch)
            for near in range(first, last):
                if near != position:
                    change_rows(sentence[near], inputs, width, rows, starts, scratch)
            if with_loss:
                stats[1] += 1
