"""Skip-gram (Mikolov et al. 2013): predict each word from the vector of each word near it.

As in word2vec.c, each word that subsampling keeps gets a window of random width 1 to `window`; the
context words' vectors are the inputs, the word itself is the target.
"""

from dlkit.core.numba_tools import njit
from dlkit.embed.compiled import (
    LOSS_MASK,
    append_outputs,
    next_state,
    pad_outputs,
    random_below,
    read_sentence,
    seed_state,
    step,
)


@njit(cache=True, nogil=True)
def train_skipgram(ids, begin, end, inputs, outputs, width, tables, rate, seed, scratch):
    """Train on the sentences in ids[begin:end] at one learning rate."""
    state = seed_state(seed)
    sentence, input_offsets, stats = scratch.sentence, scratch.input_offsets, scratch.stats
    empty = len(outputs) - width
    i = begin
    while i < end:
        length, i, state = read_sentence(ids, i, end, tables.keep, sentence, state)
        for position in range(length):
            state = next_state(state)
            reach = 1 + random_below(state, tables.window)
            m = 0
            for near in range(max(position - reach, 0), min(position + reach + 1, length)):
                if near != position:
                    input_offsets[m] = sentence[near] * width
                    m += 1
            if m == 0:
                continue
            n, state = append_outputs(sentence[position], tables, width, 0, scratch, state)
            n = pad_outputs(n, empty, scratch)
            with_loss = position & LOSS_MASK == 0
            step(inputs, input_offsets, m, outputs, n, width, rate, True, with_loss, scratch)
            if with_loss:
                stats[1] += m
