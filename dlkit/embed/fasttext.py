"""fastText's skip-gram (Bojanowski et al. 2017): a word's vector is the mean of its rows.

The rows are the word's own and one for the hash of each character n-gram. The mean predicts each
word near it; as in the original, every row gets the full gradient of the mean. The mean is computed
and updated once for all words in the window; the original does both for each of them.
"""

from dlkit.core.numba_tools import njit
from dlkit.embed.cbow import add_to_mean, clear_mean, divide_mean, update_rows
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
def train_fasttext(
    ids, begin, end, inputs, outputs, width, rows, starts, tables, rate, seed, scratch
):
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
            word = sentence[position]
            clear_mean(width, scratch)
            add_to_mean(word, inputs, width, rows, starts, scratch)
            divide_mean(starts[word + 1] - starts[word], width, scratch)
            n = 0
            for near in range(first, last):
                if near != position:
                    n, state = append_outputs(sentence[near], tables, width, n, scratch, state)
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
            update_rows(word, inputs, width, rows, starts, scratch)
            if with_loss:
                stats[1] += last - first - 1
