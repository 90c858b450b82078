"""Compiled loops that count n-grams and smooth their counts.

Levels are those of ngram.Trie. PAD follows an n-gram that ends early: it is the number of tokens,
so that it sorts last.

Shapes: T ids, N the order, M n-grams of a level, P those of the level before, R records of a block.
"""

import numpy as np

from dlkit.core.numba_tools import item, njit, prefetch

AHEAD = 24  # positions whose ids are prefetched


@njit(cache=True, nogil=True)
def sort_positions(ids, order, pad):
    """Sort the positions (T) of ids (T + N, the last N of them PAD) by the `order` ids from each.

    A radix sort whose digits are whole tokens, the last one first.
    """
    length = len(ids) - order
    positions = np.empty(length, np.int32)
    sorted_ = np.empty(length, np.int32)
    for position in range(length):
        positions[position] = position
    free = np.empty(pad + 2, np.int64)
    for digit in range(order - 1, -1, -1):
        free[:] = 0
        for position in range(length):
            free[ids[position + digit] + 1] += 1
        for token in range(pad + 1):
            free[token + 1] += free[token]
        for k in range(length):
            prefetch(ids, item(positions, min(k + AHEAD, length - 1)) + digit)
            position = item(positions, k)
            token = item(ids, position + digit)
            sorted_[free[token]] = position
            free[token] += 1
        positions, sorted_ = sorted_, positions
    return positions


@njit(cache=True, nogil=True)
def collect_ngrams(ids, positions, line_end, pad, grams, repeats):
    """Write the n-grams at sorted positions to `grams` (R, N), and their counts to `repeats`.

    An n-gram ends with the end of its line. Returns the numbers of positions that were read and of
    records that they filled.
    """
    order = grams.shape[1]
    filled = 0
    for k in range(len(positions)):
        if filled == len(grams):
            return k, filled
        prefetch(ids, item(positions, min(k + AHEAD, len(positions) - 1)))
        position = item(positions, k)
        length = 0
        while length < order:
            token = ids[position + length]
            if token == pad:
                break
            grams[filled, length] = token
            length += 1
            if token == line_end and length > 1:
                break
        grams[filled, length:] = pad
        same = filled > 0
        if same:
            for place in range(order):
                if grams[filled, place] != grams[filled - 1, place]:
                    same = False
                    break
        if same:
            repeats[filled - 1] += 1
        else:
            repeats[filled] = 1
            filled += 1
    return len(positions), filled


@njit(cache=True, nogil=True)
def merge_runs(grams, repeats, heads, ends, merged, merged_repeats):
    """Fill `merged` (R, N) from sorted runs of records; returns the number of records.

    Run r has the rows heads[r] to ends[r] - 1 of `grams`; the heads advance. Equal records of two
    runs follow each other.
    """
    order = grams.shape[1]
    for filled in range(len(merged)):
        best = -1
        for run in range(len(heads)):
            if heads[run] == ends[run]:
                continue
            if best < 0:
                best = run
                continue
            for place in range(order):
                a, b = grams[heads[run], place], grams[heads[best], place]
                if a != b:
                    if a < b:
                        best = run
                    break
        if best < 0:
            return filled
        merged[filled] = grams[heads[best]]
        merged_repeats[filled] = repeats[heads[best]]
        heads[best] += 1
    return len(merged)


@njit(cache=True, nogil=True)
def extend_trie(grams, repeats, pad, last, open_counts, open_first, sizes, words, counts, first):
    """Add sorted records to a trie; an n-gram is written once no more of its records can come.

    `last` (N), `open_counts` and `open_first` describe the open n-grams; `sizes` (N) are those of
    the levels. Complete n-grams are written to `words`, `counts` and `first` (N, R + 1); returns
    their number in each level. Without records, all open n-grams are completed.
    """
    order = len(last)
    written = np.zeros(order, np.int64)
    for record in range(max(len(grams), 1)):
        ended = len(grams) == 0
        same = 0
        if not ended:
            while same < order and grams[record, same] == last[same] and last[same] != pad:
                same += 1
            if same < order and grams[record, same] == pad:
                # It is a prefix of the n-gram before it.
                open_counts[:same] += repeats[record]
                continue
        for level in range(same, order):
            if last[level] != pad:
                at = written[level]
                words[level, at] = last[level]
                counts[level, at] = open_counts[level]
                first[level, at] = open_first[level]
                written[level] += 1
                sizes[level] += 1
                last[level] = pad
        if ended:
            break
        open_counts[:same] += repeats[record]
        for level in range(same, order):
            token = grams[record, level]
            if token == pad:
                break
            last[level] = token
            open_counts[level] = repeats[record]
            open_first[level] = sizes[level + 1] if level + 1 < order else 0
    return written


@njit(cache=True, nogil=True)
def link_suffixes(first, words, parent_links, low_first, low_words, links):
    """Write the index, a level below, of each n-gram (M) without its first token to `links`.

    `first` (P + 1) and `words` (M) are those of its own level, `parent_links` (P) the links of the
    level before, and `low_first` and `low_words` those of the level below.
    """
    for parent in range(len(first) - 1):
        begin, end = np.int64(first[parent]), np.int64(first[parent + 1])
        if begin == end:
            continue
        suffix = np.int64(parent_links[parent])
        low, stop = np.int64(low_first[suffix]), np.int64(low_first[suffix + 1])
        for child in range(begin, end):
            token = words[child]
            # The children of both are sorted: the search continues where the last one ended.
            step = np.int64(1)
            high = low
            while high < stop and low_words[high] < token:
                low = high + 1
                high += step
                step *= 2
            high = min(high, stop)
            while low < high:
                middle = (low + high) >> 1
                if low_words[middle] < token:
                    low = middle + 1
                else:
                    high = middle
            links[child] = low


@njit(cache=True, nogil=True)
def count_links(links, adjusted):
    """Add the number of different tokens before each n-gram to `adjusted`."""
    for child in range(len(links)):
        prefetch(adjusted, np.int64(links[min(child + AHEAD, len(links) - 1)]))
        adjusted[links[child]] += 1


@njit(cache=True, nogil=True)
def counts_of_counts(counts, most):
    """Number of n-grams that occur 0, 1, ..., `most` times."""
    found = np.zeros(most + 1, np.int64)
    for count in counts:
        if count <= most:
            found[count] += 1
    return found


@njit(cache=True, nogil=True)
def kneser_ney(first, adjusted, counts, threshold, links, lower, discounts, probs, backoffs):
    """Compute the probabilities (M) of a level, and the back-off weights (P) of the one before.

    The counts of n-grams that occur `threshold` times or less go to the lower order.
    """
    for parent in range(len(first) - 1):
        begin, end = np.int64(first[parent]), np.int64(first[parent + 1])
        total = 0.0
        left = 0.0
        for child in range(begin, end):
            count = adjusted[child]
            total += count
            left += discounts[min(count, 3)] if counts[child] > threshold else count
        if total == 0:
            backoffs[parent] = 1
            for child in range(begin, end):
                probs[child] = lower[links[child]]
            continue
        gamma = left / total
        backoffs[parent] = gamma
        for child in range(begin, end):
            prefetch(lower, np.int64(links[min(child + AHEAD, len(links) - 1)]))
            count = adjusted[child]
            kept = count - discounts[min(count, 3)]
            probs[child] = kept / total + gamma * lower[links[child]]


@njit(cache=True, nogil=True)
def sum_children(first, counts, totals):
    """Sum the counts of each n-gram's children, in `totals` (P)."""
    for parent in range(len(first) - 1):
        total = np.int64(0)
        for child in range(np.int64(first[parent]), np.int64(first[parent + 1])):
            total += counts[child]
        totals[parent] = total


@njit(cache=True, nogil=True)
def bucket_of(total):
    """The bucket of contexts with this count: its number of binary digits, less 1."""
    bucket = 0
    while total > 1:
        total >>= 1
        bucket += 1
    return bucket


@njit(cache=True, nogil=True)
def assign_buckets(totals, buckets):
    """Write the bucket of each total."""
    for place in range(len(totals)):
        buckets[place] = bucket_of(totals[place])


@njit(cache=True, nogil=True)
def jelinek_mercer(first, counts, links, lower, weights, probs, backoffs):
    """Compute probabilities (M) and back-off weights (P).

    `weights` are those of the higher order, one for each bucket of contexts.
    """
    for parent in range(len(first) - 1):
        begin, end = np.int64(first[parent]), np.int64(first[parent + 1])
        total = np.int64(0)
        for child in range(begin, end):
            total += counts[child]
        if total == 0:
            backoffs[parent] = 1
            continue
        weight = weights[bucket_of(total)]
        backoffs[parent] = 1 - weight
        for child in range(begin, end):
            probs[child] = weight * counts[child] / total + (1 - weight) * lower[links[child]]


@njit(cache=True, nogil=True)
def katz(first, counts, links, lower, ratios, probs, backoffs):
    """Compute probabilities (M) and back-off weights (P); `ratios` discount counts 0, 1, ...

    Larger counts are not discounted. A context of large counts only gets one more count, for unseen
    tokens.
    """
    most = len(ratios) - 1
    for parent in range(len(first) - 1):
        begin, end = np.int64(first[parent]), np.int64(first[parent + 1])
        if begin == end:
            backoffs[parent] = 1
            continue
        total = 0.0
        kept = 0.0
        low = 0.0
        for child in range(begin, end):
            count = counts[child]
            total += count
            kept += count * ratios[count] if count <= most else count
            low += lower[links[child]]
        unseen = 1 - low
        if unseen < 1e-6:  # all possible tokens were seen
            backoffs[parent] = 0
            total = kept
        else:
            if kept > total * (1 - 1e-9):
                total += 1
            backoffs[parent] = (1 - kept / total) / unseen
        for child in range(begin, end):
            count = counts[child]
            probs[child] = (count * ratios[count] if count <= most else count) / total


@njit(cache=True, nogil=True)
def add_k(first, counts, k, num_tokens, probs, floors):
    """Compute the probabilities (M) of seen tokens and (P) of each unseen one."""
    for parent in range(len(first) - 1):
        begin, end = np.int64(first[parent]), np.int64(first[parent + 1])
        if begin == end:
            floors[parent] = 1
            continue
        total = k * num_tokens
        for child in range(begin, end):
            total += counts[child]
        floors[parent] = k / total
        for child in range(begin, end):
            probs[child] = (counts[child] + k) / total


@njit(cache=True, nogil=True)
def pruning_losses(first, counts, links, lower, probs, losses):
    """Losses (M) of the text's log-probability if an n-gram is pruned (Stolcke 1998).

    The probability of a context is its relative frequency in the text.
    """
    for parent in range(len(first) - 1):
        begin, end = np.int64(first[parent]), np.int64(first[parent + 1])
        total = 0.0
        unseen = 1.0
        low_unseen = 1.0
        for child in range(begin, end):
            total += counts[child]
            unseen -= probs[child]
            low_unseen -= lower[links[child]]
        unseen, low_unseen = max(unseen, 1e-9), max(low_unseen, 1e-9)
        for child in range(begin, end):
            p, q = np.float64(probs[child]), np.float64(lower[links[child]])
            weight = (unseen + p) / (low_unseen + q)
            losses[child] = total * (
                p * (np.log(p) - np.log(q * weight))
                + unseen * (np.log(unseen / low_unseen) - np.log(weight))
            )


@njit(cache=True, nogil=True)
def propagate_max(first, values, low_values):
    """Raise the value of each n-gram to the largest of its children's."""
    for parent in range(len(first) - 1):
        for child in range(np.int64(first[parent]), np.int64(first[parent + 1])):
            low_values[parent] = max(low_values[parent], values[child])


@njit(cache=True, nogil=True)
def back_off_pruned(first, parents_kept, kept, links, lower, probs, backoffs):
    """Set the probabilities of n-grams (M) that are not kept to those by backing off.

    The back-off weights (P) become those with which probabilities sum to 1.
    """
    for parent in range(len(first) - 1):
        begin, end = np.int64(first[parent]), np.int64(first[parent + 1])
        weight = 1.0
        if parents_kept[parent]:
            unseen = 1.0
            low_unseen = 1.0
            for child in range(begin, end):
                if kept[child]:
                    unseen -= probs[child]
                    low_unseen -= lower[links[child]]
            # Differences of numbers near 1 are exact to seven digits only.
            if unseen < 1e-6 or low_unseen < 1e-6:
                weight = np.float64(backoffs[parent])
            else:
                weight = unseen / low_unseen
        backoffs[parent] = weight
        for child in range(begin, end):
            if not kept[child]:
                probs[child] = weight * lower[links[child]]


@njit(cache=True, nogil=True)
def compact_first(first, kept_parents, kept, compact):
    """Write `first` of the kept n-grams alone to `compact`."""
    at = 0
    total = 0
    for parent in range(len(first) - 1):
        if not kept_parents[parent]:
            continue
        compact[at] = total
        at += 1
        for child in range(np.int64(first[parent]), np.int64(first[parent + 1])):
            total += kept[child]
    compact[at] = total


@njit(cache=True, nogil=True)
def write_number(out, at, value):
    """Write a base-10 logarithm with at most seven decimals; returns where it ends."""
    if value < 0:
        out[at] = 45
        at += 1
        value = -value
    if value > 99:
        value = 99.0
    scaled = np.int64(value * 1e7 + 0.5)
    whole, rest = scaled // 10_000_000, scaled % 10_000_000
    if whole >= 10:
        out[at] = 48 + whole // 10
        at += 1
    out[at] = 48 + whole % 10
    at += 1
    if rest:
        out[at] = 46
        at += 1
        unit = 1_000_000
        while rest:
            out[at] = 48 + rest // unit
            rest %= unit
            unit //= 10
            at += 1
    return at


@njit(cache=True, nogil=True)
def write_lines(grams, logprobs, backoffs, names, starts, out):
    """Write the lines of an ARPA file for n-grams (R, N) to `out`; returns the number of bytes.

    `starts` is where each name begins in `names`; `backoffs` may be empty.
    """
    at = 0
    for row in range(len(grams)):
        at = write_number(out, at, logprobs[row])
        for column in range(grams.shape[1]):
            out[at] = 32 if column else 9
            at += 1
            name = grams[row, column]
            for place in range(starts[name], starts[name + 1]):
                out[at] = names[place]
                at += 1
        if len(backoffs):
            out[at] = 9
            at = write_number(out, at + 1, backoffs[row])
        out[at] = 10
        at += 1
    return at
