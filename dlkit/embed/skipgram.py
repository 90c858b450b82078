"""Skip-gram (Mikolov et al. 2013): each word is predicted from the vector of each word near it.

As in word2vec.c, a window of random width 1 to `window` lies around each word that subsampling
left; the context words' vectors are the inputs, the word itself is what they predict.
"""

from numba import njit

from dlkit.embed.compiled import (
    NO_LOSS_OF,
    after,
    below,
    choose_outputs,
    fill_up,
    seeded,
    step,
    subsampled,
)


@njit(cache=True, nogil=True)
def skipgram(ids, begin, end, inputs, outputs, width, draw, rate, seed, scratch):
    """Train on the sentences of ids[begin:end] at one learning rate."""
    state = seeded(seed)
    sentence, at, stats = scratch.sentence, scratch.at, scratch.stats
    empty = len(outputs) - width
    i = begin
    while i < end:
        length, i, state = subsampled(ids, i, end, draw.keep, sentence, state)
        for position in range(length):
            state = after(state)
            reach = 1 + below(state, draw.window)
            m = 0
            for near in range(max(position - reach, 0), min(position + reach + 1, length)):
                if near != position:
                    at[m] = sentence[near] * width
                    m += 1
            if m == 0:
                continue
            n, state = choose_outputs(sentence[position], draw, width, 0, scratch, state)
            n = fill_up(n, empty, scratch)
            with_loss = position & NO_LOSS_OF == 0
            step(inputs, at, m, outputs, n, width, rate, True, with_loss, scratch)
            if with_loss:
                stats[1] += m
