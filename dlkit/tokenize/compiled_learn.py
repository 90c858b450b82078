"""Learning of merges in one compiled function; bpe.learn_merges is the same in Python.

The words that hold a pair are linked lists of nodes. A list belongs to one entry of the queue, is
built during one step and freed when its pair is merged, so memory stays small.
"""

import numpy as np

from dlkit.core.numba_tools import njit, prefetch
from dlkit.tokenize.compiled_table import find_pair, first_row, key_byte_by_byte, pair_row

DONE = -2  # the head of a list whose pair was merged
HEAD = 3  # cells before a word's symbols: its length, and its count in two parts
HALF = np.int64(1 << 31)
PENDING = 64  # changes of pairs that are collected before they are applied, to hide memory latency


@njit(cache=True, nogil=True)
def doubled(array):
    new = np.empty(2 * len(array), array.dtype)
    new[: len(array)] = array
    return new


@njit(cache=True, nogil=True)
def find_token(slots, pool, starts, wanted):
    """The slot of the token with these bytes, or a free slot for it."""
    mask = len(slots) - 1
    low, high = key_byte_by_byte(wanted, 0, len(wanted))
    slot = first_row(slots, low, high) + (low & 3)
    while slots[slot] >= 0:
        token = slots[slot]
        if starts[token + 1] - starts[token] == len(wanted):
            equal = True
            for k in range(len(wanted)):
                if pool[starts[token] + k] != wanted[k]:
                    equal = False
                    break
            if equal:
                return slot
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def before(scores, pairs, serials, a, b):
    """Whether entry a leaves the queue before entry b."""
    if scores[a] != scores[b]:
        return scores[a] > scores[b]
    if pairs[a] != pairs[b]:
        return pairs[a] < pairs[b]
    return serials[a] < serials[b]


@njit(cache=True, nogil=True)
def sift_up(heap, at, scores, pairs, serials):
    entry = heap[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not before(scores, pairs, serials, entry, heap[parent]):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = entry


@njit(cache=True, nogil=True)
def sift_down(heap, size, scores, pairs, serials):
    at = 0
    entry = heap[0]
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and before(scores, pairs, serials, heap[child + 1], heap[child]):
            child += 1
        if not before(scores, pairs, serials, heap[child], entry):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = entry


@njit(cache=True, nogil=True)
def pair_score(key, count, symbol_counts, likelihood):
    if not likelihood:
        return np.float64(count)
    both = np.float64(symbol_counts[key >> 32]) * np.float64(symbol_counts[key & 0xFFFFFFFF])
    return count / both if both else 0.0


@njit(cache=True, nogil=True)
def grow_pairs(pairs):
    """Copy the rows into a table of twice the size."""
    new = np.full(2 * len(pairs), -1, np.int64)
    for old in range(0, len(pairs), 4):
        if pairs[old] >= 0:
            row = find_pair(new, pairs[old], 4)
            new[row : row + 4] = pairs[old : old + 4]
    return new


@njit(cache=True, nogil=True, forceinline=True)
def add_change(changes, n, pairs, pair, by, word):
    """Append a change and prefetch the pair's row; returns the number of changes."""
    changes[n, 0] = pair
    changes[n, 1] = by
    changes[n, 2] = word
    prefetch(pairs, pair_row(pairs, pair, 4))
    return n + 1


@njit(cache=True, nogil=True)
def merge_in_word(cells, word, left, right, new, changes, n_changes, pairs):
    """Merge the pair in a word; returns the number of changes so far, and of merges.

    Here and in apply_changes no array is replaced: numba counts references to arrays that are
    replaced in a loop, each time.
    """
    count = cells[word + 1] * HALF + cells[word + 2]
    start = word + HEAD
    end = start + cells[word]
    read = start
    write = start
    while read < end:
        if read + 1 < end and cells[read] == left and cells[read + 1] == right:
            if write > start:
                before_it = np.int64(cells[write - 1]) << 32
                n_changes = add_change(changes, n_changes, pairs, before_it | left, -count, -1)
                n_changes = add_change(changes, n_changes, pairs, before_it | new, count, word)
            if read + 2 < end:
                after_it = np.int64(cells[read + 2])
                n_changes = add_change(
                    changes, n_changes, pairs, right << 32 | after_it, -count, -1
                )
                n_changes = add_change(changes, n_changes, pairs, new << 32 | after_it, count, word)
            cells[write] = new
            read += 2
        else:
            cells[write] = cells[read]
            read += 1
        write += 1
    cells[word] = write - start
    return n_changes, end - write


@njit(cache=True, nogil=True)
def apply_changes(
    changes, n_changes, pairs, n_pairs, list_pairs, list_heads, n_lists, nodes, n_nodes, free
):
    """Apply the changes; all arrays have room. Returns their used sizes, and the free node."""
    for c in range(n_changes):
        row = find_pair(pairs, changes[c, 0], 4)
        if pairs[row] < 0:
            pairs[row] = changes[c, 0]
            pairs[row + 1] = 0
            n_pairs += 1
        pairs[row + 1] += changes[c, 1]
        word = changes[c, 2]
        if word < 0:
            continue
        chain = pairs[row + 2]
        if chain < 0:
            chain = np.int64(n_lists)
            list_pairs[chain] = changes[c, 0]
            list_heads[chain] = -1
            pairs[row + 2] = chain
            n_lists += 1
        top = np.int64(list_heads[chain])
        if top >= 0 and nodes[2 * top] == word:
            continue
        fresh = np.int64(free)
        if free >= 0:
            free = np.int64(nodes[2 * free + 1])
        else:
            fresh = np.int64(n_nodes)
            n_nodes += 1
        nodes[2 * fresh] = word
        nodes[2 * fresh + 1] = top
        list_heads[chain] = fresh
    return n_pairs, n_lists, n_nodes, free


@njit(cache=True, nogil=True)
def learn_merges(
    pool, token_starts, symbols, starts, counts, vocab_size, min_count, prefix, likelihood
):
    """The merges as rows (left, right, new).

    `pool` and `token_starts` hold the initial tokens' bytes, `symbols`, `starts` and `counts` the
    words.
    """
    n_tokens = len(token_starts) - 1
    # Each word in one place of memory: HEAD, then its symbols. A word is named by its start.
    n_words = len(starts) - 1
    cells = np.empty(len(symbols) + HEAD * n_words, np.int32)
    longest = 1
    for w in range(n_words):
        begin = starts[w] + HEAD * w
        length = starts[w + 1] - starts[w]
        longest = max(longest, length)
        cells[begin] = length
        cells[begin + 1] = counts[w] // HALF
        cells[begin + 2] = counts[w] % HALF
        cells[begin + HEAD : begin + HEAD + length] = symbols[starts[w] : starts[w + 1]]

    # Tokens by their bytes.
    room = max(vocab_size, n_tokens) + 1
    tokens = np.empty(room + 1, np.int64)
    tokens[: n_tokens + 1] = token_starts
    slots = np.full(1 << int(np.ceil(np.log2(4 * room))), -1, np.int32)
    for t in range(n_tokens):
        slots[find_token(slots, pool, tokens, pool[tokens[t] : tokens[t + 1]])] = t
    symbol_counts = np.zeros(room, np.int64)

    # Pairs: rows of left << 32 | right, their count, the list begun in this step, and padding.
    pairs = np.full(4 << 14, -1, np.int64)
    n_pairs = 0
    # Lists of words, as nodes: a word, the next node.
    list_pairs = np.empty(1 << 16, np.int64)
    list_heads = np.empty(1 << 16, np.int32)
    n_lists = 0
    nodes = np.empty(2 << 16, cells.dtype)
    n_nodes = 0
    free = np.int64(-1)
    # Entries of the queue; several for one list only with `likelihood`.
    entry_scores = np.empty(1 << 16, np.float64)
    entry_pairs = np.empty(1 << 16, np.int64)
    entry_lists = np.empty(1 << 16, np.int32)
    entry_serials = np.empty(1 << 16, np.int64)
    heap = np.empty(1 << 16, np.int32)
    n_entries = 0
    heap_size = 0
    serial = 0
    # For `likelihood`, the lists of pairs that a symbol is part of.
    near_heads = np.full(room, -1, np.int32)
    near_lists = np.empty(1 << 16 if likelihood else 1, np.int32)
    near_next = np.empty(1 << 16 if likelihood else 1, np.int32)
    n_near = 0

    merges = np.empty((1 << 12, 3), np.int32)
    n_merges = 0
    # Changes to apply: a pair, the change of its count, the word (-1 if the pair is gone there).
    changes = np.empty((4 * longest + PENDING, 3), np.int64)
    visits = np.empty(1 << 10, cells.dtype)
    to_push = np.empty(1 << 10, np.int32)

    first = True  # the first step counts the pairs of all words
    left = np.int64(-1)
    right = np.int64(-1)
    new = np.int64(-1)
    key = np.int64(-1)
    current = np.int32(-1)
    while True:
        if not first:
            # The best pair with a current score.
            if n_tokens >= vocab_size or heap_size == 0:
                break
            entry = heap[0]
            key = entry_pairs[entry]
            current = entry_lists[entry]
            if list_heads[current] == DONE:
                heap_size -= 1
                heap[0] = heap[heap_size]
                sift_down(heap, heap_size, entry_scores, entry_pairs, entry_serials)
                continue
            count = pairs[find_pair(pairs, key, 4) + 1]
            score = pair_score(key, count, symbol_counts, likelihood)
            if score != entry_scores[entry]:
                # Scores of waiting entries only fall (or have a newer entry): it sinks.
                entry_scores[entry] = score
                serial += 1
                entry_serials[entry] = serial
                sift_down(heap, heap_size, entry_scores, entry_pairs, entry_serials)
                continue
            if count < max(1, min_count):
                if not likelihood:
                    break
                heap_size -= 1
                heap[0] = heap[heap_size]
                sift_down(heap, heap_size, entry_scores, entry_pairs, entry_serials)
                continue
            heap_size -= 1
            heap[0] = heap[heap_size]
            sift_down(heap, heap_size, entry_scores, entry_pairs, entry_serials)

            # Its token, which may exist already.
            left = key >> 32
            right = key & 0xFFFFFFFF
            head = pool[tokens[left] : tokens[left + 1]]
            tail = pool[tokens[right] : tokens[right + 1]]
            skip = 0
            if 0 < len(prefix) <= len(tail):
                skip = len(prefix)
                for k in range(len(prefix)):
                    if tail[k] != prefix[k]:
                        skip = 0
            string = np.concatenate((head, tail[skip:]))
            slot = find_token(slots, pool, tokens, string)
            if slots[slot] >= 0:
                new = np.int64(slots[slot])
            else:
                new = np.int64(n_tokens)
                end = tokens[n_tokens]
                while end + len(string) > len(pool):
                    pool = doubled(pool)
                pool[end : end + len(string)] = string
                tokens[n_tokens + 1] = end + len(string)
                slots[slot] = n_tokens
                n_tokens += 1
            if n_merges == len(merges):
                bigger = np.empty((2 * n_merges, 3), np.int32)
                bigger[:n_merges] = merges
                merges = bigger
            merges[n_merges, 0] = left
            merges[n_merges, 1] = right
            merges[n_merges, 2] = new
            n_merges += 1

        # Every word on the pair's list; in the first step every word.
        first_list = n_lists
        n_visits = n_words
        if not first:
            n_visits = 0
            node = np.int64(list_heads[current])
            last_node = node
            while node >= 0:
                if n_visits == len(visits):
                    visits = doubled(visits)
                visits[n_visits] = nodes[2 * node]
                n_visits += 1
                last_node = node
                node = np.int64(nodes[2 * node + 1])
            if last_node >= 0:
                nodes[2 * last_node + 1] = free
                free = np.int64(list_heads[current])
            list_heads[current] = DONE
        n_changes = 0
        next_word = np.int64(0)
        for visit in range(n_visits):
            if first:
                word = next_word
            else:
                word = np.int64(visits[visit])
                if visit + 8 < n_visits:
                    prefetch(cells, np.int64(visits[visit + 8]))
            if first:
                count = cells[word + 1] * HALF + cells[word + 2]
                start = word + HEAD
                next_word = start + cells[word]
                for i in range(start, next_word):
                    symbol_counts[cells[i]] += count
                for i in range(start, next_word - 1):
                    changed = np.int64(cells[i]) << 32 | np.int64(cells[i + 1])
                    n_changes = add_change(changes, n_changes, pairs, changed, count, word)
            else:
                n_changes, merged = merge_in_word(
                    cells, word, left, right, new, changes, n_changes, pairs
                )
                if likelihood:
                    merged *= cells[word + 1] * HALF + cells[word + 2]
                    pairs[find_pair(pairs, key, 4) + 1] -= merged
                    symbol_counts[left] -= merged
                    symbol_counts[right] -= merged
                    symbol_counts[new] += merged

            if n_changes < PENDING and visit + 1 < n_visits:
                continue
            while 8 * (n_pairs + n_changes) > len(pairs):
                pairs = grow_pairs(pairs)
            while n_lists + n_changes > len(list_pairs):
                list_pairs = doubled(list_pairs)
                list_heads = doubled(list_heads)
            while 2 * (n_nodes + n_changes) > len(nodes):
                nodes = doubled(nodes)
            n_pairs, n_lists, n_nodes, free = apply_changes(
                changes, n_changes, pairs, n_pairs,
                list_pairs, list_heads, n_lists, nodes, n_nodes, free,
            )  # fmt: skip
            n_changes = 0

        # Queue the new lists; with `likelihood` also the pairs whose parts became rarer.
        n_push = 0
        for chain in range(first_list, n_lists):
            row = find_pair(pairs, list_pairs[chain], 4)
            pairs[row + 2] = -1
            if pairs[row + 1] <= 0:
                continue
            if n_push == len(to_push):
                to_push = doubled(to_push)
            to_push[n_push] = chain
            n_push += 1
            if likelihood:
                for side in range(2):
                    symbol = (
                        list_pairs[chain] >> 32 if side == 0 else list_pairs[chain] & 0xFFFFFFFF
                    )
                    if n_near == len(near_lists):
                        near_lists = doubled(near_lists)
                        near_next = doubled(near_next)
                    near_lists[n_near] = chain
                    near_next[n_near] = near_heads[symbol]
                    near_heads[symbol] = n_near
                    n_near += 1
        if likelihood and not first:
            for side in range(1 if left == right else 2):
                symbol = left if side == 0 else right
                near = near_heads[symbol]
                kept = np.int32(-1)
                near_heads[symbol] = -1
                while near >= 0:
                    after = near_next[near]
                    chain = near_lists[near]
                    if list_heads[chain] != DONE:
                        near_next[near] = kept
                        kept = near
                        if chain < first_list:
                            if n_push == len(to_push):
                                to_push = doubled(to_push)
                            to_push[n_push] = chain
                            n_push += 1
                    near = after
                near_heads[symbol] = kept
        for p in range(n_push):
            chain = to_push[p]
            if n_entries == len(entry_lists):
                entry_scores = doubled(entry_scores)
                entry_pairs = doubled(entry_pairs)
                entry_lists = doubled(entry_lists)
                entry_serials = doubled(entry_serials)
                heap = doubled(heap)
            pair = list_pairs[chain]
            count = pairs[find_pair(pairs, pair, 4) + 1]
            entry_scores[n_entries] = pair_score(pair, count, symbol_counts, likelihood)
            entry_pairs[n_entries] = pair
            entry_lists[n_entries] = chain
            serial += 1
            entry_serials[n_entries] = serial
            heap[heap_size] = n_entries
            sift_up(heap, heap_size, entry_scores, entry_pairs, entry_serials)
            n_entries += 1
            heap_size += 1
        first = False
    return merges[:n_merges]
