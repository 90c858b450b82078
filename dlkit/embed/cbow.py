"""CBOW (Mikolov et al. 2013): predict each word from the mean of the vectors near it.

As in word2vec.c (cbow_mean) and fastText, every vector in the mean gets the full gradient of the
mean, not its share. `rows[starts[w] : starts[w + 1]]` are the rows that make up a word's vector:
its own and, in fastText's CBOW, those of its n-grams, all with the same weight in the mean.
"""

import numpy as np

from dlkit.core.numba_tools import LANES, fma, load, njit, store, zeros
from dlkit.embed.compiled import (
    LOSS_MASK,
    add,
    append_outputs,
    next_state,
    pad_outputs,
    random_below,
    read_sentence,
    seed_state,
    step,
)


@njit(cache=True, nogil=True, forceinline=True)
def clear_mean(width, scratch):
    for d in range(0, width, LANES):
        store(scratch.mean, d, zeros())


@njit(cache=True, nogil=True, forceinline=True)
def add_to_mean(word, inputs, width, rows, starts, scratch):
    for k in range(starts[word], starts[word + 1]):
        row = np.int64(rows[k]) * width
        for d in range(0, width, LANES):
            store(scratch.mean, d, add(load(inputs, row + d), load(scratch.mean, d)))


@njit(cache=True, nogil=True, forceinline=True)
def divide_mean(count, width, scratch):
    share = np.float32(1 / count)
    for d in range(0, width, LANES):
        store(scratch.mean, d, fma(load(scratch.mean, d), share, zeros()))


@njit(cache=True, nogil=True, forceinline=True)
def update_rows(word, inputs, width, rows, starts, scratch):
    """Add the change of the mean to each of a word's rows."""
    for k in range(starts[word], starts[word + 1]):
        row = np.int64(rows[k]) * width
        for d in range(0, width, LANES):
            store(inputs, row + d, add(load(scratch.errors, d), load(inputs, row + d)))


@njit(cache=True, nogil=True)
def train_cbow(ids, begin, end, inputs, outputs, width, rows, starts, tables, rate, seed, scratch):
    """Train on the sentences in ids[begin:end] at one learning rate."""
    state = seed_state(seed)
    sentence, stats = scratch.sentence, scratch.stats
    scratch.input_offsets[0] = 0
    empty = len(outputs) - width
    i = begin
    while i < end:
        length, i, state = read_sentence(ids, i, end, tables.keep, sentence, state)
        for position in range(length):
            state = next_state(state)
            reach = 1 + random_below(state, tables.window)
            first, last = max(position - reach, 0), min(position + reach + 1, length)
            if last - first < 2:
                continue
            count = 0
            clear_mean(width, scratch)
            for near in range(first, last):
                if near != position:
                    word = sentence[near]
                    add_to_mean(word, inputs, width, rows, starts, scratch)
                    count += starts[word + 1] - starts[word]
            divide_mean(count, width, scratch)
            n, state = append_outputs(sentence[position], tables, width, 0, scratch, state)
            n = pad_outputs(n, empty, scratch)
            with_loss = position & LOSS_MASK == 0
            step(
                scratch.mean,
                scratch.input_offsets,
                1,
                outputs,
                n,
                width,
                rate,
                False,
                with_loss,
                scratch,
            )
            for near in range(first, last):
                if near != position:
                    update_rows(sentence[near], inputs, width, rows, starts, scratch)
            if with_loss:
                stats[1] += 1
