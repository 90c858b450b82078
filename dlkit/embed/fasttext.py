"""fastText's skip-gram (Bojanowski et al. 2017): a word's vector is the mean of its rows.

These are its own row and one for each hash of its character n-grams. From the mean each word near
it is predicted; as in the original, each row takes the mean's whole change. The mean is computed
once for all words of the window and changed once, where the original does so for each of them.
"""

from numba import njit

from dlkit.embed.cbow import add_to_mean, change_rows, divide_mean, start_mean
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
def fasttext(ids, begin, end, inputs, outputs, width, rows, starts, draw, rate, seed, scratch):
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
            word = sentence[position]
            start_mean(width, scratch)
            add_to_mean(word, inputs, width, rows, starts, scratch)
            divide_mean(starts[word + 1] - starts[word], width, scratch)
            n = 0
            for near in range(first, last):
                if near != position:
                    n, state = choose_outputs(sentence[near], draw, width, n, scratch, state)
            n = fill_up(n, empty, scratch)
            with_loss = position & NO_LOSS_OF == 0
            step(scratch.mean, scratch.at, 1, outputs, n, width, rate, False, with_loss, scratch)
            change_rows(word, inputs, width, rows, starts, scratch)
            if with_loss:
                stats[1] += last - first - 1
