"""Learning merges in one compiled function; bpe.learn_merges says what it does, in Python.

The words that hold a pair are linked lists of nodes. A list belongs to one entry of the queue, is
made during one step and is given back when its pair is merged, so memory stays small.
"""

import numpy as np
from numba import njit

MIX = np.int64(-7046029254386353131)


@njit(cache=True, nogil=True)
def doubled(array):
    new = np.empty(2 * len(array), array.dtype)
    new[: len(array)] = array
    return new


@njit(cache=True, nogil=True)
def find_pair(keys, key):
    mask = len(keys) - 1
    slot = ((key * MIX) >> 24) & mask
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def find_token(slots, pool, starts, wanted):
    """The slot of the token with these bytes, or the free one where it belongs."""
    mask = len(slots) - 1
    key = np.int64(len(wanted))
    for byte in wanted:
        key = (key ^ np.int64(byte)) * np.int64(1099511628211)
    slot = ((key * MIX) >> 24) & mask
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
def score_of(key, count, symbol_counts, likelihood):
    if not likelihood:
        return np.float64(count)
    both = np.float64(symbol_counts[key >> 32]) * np.float64(symbol_counts[key & 0xFFFFFFFF])
    return count / both if both else 0.0


@njit(cache=True, nogil=True)
def learn_merges(
    pool, token_starts, symbols, starts, counts, vocab_size, min_count, prefix, likelihood
):
    """Merges (left, right, new) as rows. `pool` and `token_starts` hold the initial tokens' bytes,
    `symbols` and `starts` the words; `symbols` is overwritten."""
    n_tokens = len(token_starts) - 1
    n_words = len(starts) - 1
    lengths = np.empty(n_words, np.int32)
    longest = 1
    for w in range(n_words):
        lengths[w] = starts[w + 1] - starts[w]
        longest = max(longest, lengths[w])

    # Tokens by their bytes.
    room = max(vocab_size, n_tokens) + 1
    tokens = np.empty(room + 1, np.int64)
    tokens[: n_tokens + 1] = token_starts
    slots = np.full(1 << int(np.ceil(np.log2(4 * room))), -1, np.int32)
    for t in range(n_tokens):
        slots[find_token(slots, pool, tokens, pool[tokens[t] : tokens[t + 1]])] = t
    symbol_counts = np.zeros(room, np.int64)

    # Pairs: a table from left << 32 | right to their count and the list begun in this step.
    pair_keys = np.full(1 << 16, -1, np.int64)
    pair_counts = np.zeros(1 << 16, np.int64)
    pair_lists = np.full(1 << 16, -1, np.int32)
    n_pairs = 0
    # Lists of words, as nodes; DONE marks a list whose pair was merged.
    DONE = -2
    list_pairs = np.empty(1 << 16, np.int64)
    list_heads = np.empty(1 << 16, np.int32)
    n_lists = 0
    node_words = np.empty(1 << 16, np.int32)
    node_next = np.empty(1 << 16, np.int32)
    n_nodes = 0
    free = np.int32(-1)
    # Entries of the queue; only `likelihood` makes several for one list.
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
    change_keys = np.empty(4 * longest + 4, np.int64)
    change_signs = np.empty(4 * longest + 4, np.int64)
    to_push = np.empty(1 << 10, np.int32)

    first = True  # the first step counts the pairs of all words
    left = np.int64(-1)
    right = np.int64(-1)
    new = np.int64(-1)
    key = np.int64(-1)
    current = np.int32(-1)
    while True:
        if not first:
            # The best pair, whose score is up to date.
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
            count = pair_counts[find_pair(pair_keys, key)]
            score = score_of(key, count, symbol_counts, likelihood)
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

        # Every word on the pair's list, or every word there is.
        first_list = n_lists
        next_word = np.int64(0)
        node = np.int32(-1) if first else list_heads[current]
        last_node = np.int32(-1)
        while True:
            if first:
                if next_word == n_words:
                    break
                w = next_word
                next_word += 1
            else:
                if node < 0:
                    break
                w = np.int64(node_words[node])
                last_node = node
                node = node_next[node]
            start = starts[w]
            length = np.int64(lengths[w])
            count = counts[w]
            n_changes = 0
            if first:
                for i in range(start, start + length):
                    symbol_counts[symbols[i]] += count
                for i in range(start, start + length - 1):
                    change_keys[n_changes] = np.int64(symbols[i]) << 32 | np.int64(symbols[i + 1])
                    change_signs[n_changes] = 1
                    n_changes += 1
            else:
                read = start
                write = start
                end = start + length
                while read < end:
                    if read + 1 < end and symbols[read] == left and symbols[read + 1] == right:
                        if write > start:
                            previous = np.int64(symbols[write - 1])
                            change_keys[n_changes] = previous << 32 | left
                            change_signs[n_changes] = -1
                            change_keys[n_changes + 1] = previous << 32 | new
                            change_signs[n_changes + 1] = 1
                            n_changes += 2
                        if read + 2 < end:
                            following = np.int64(symbols[read + 2])
                            change_keys[n_changes] = right << 32 | following
                            change_signs[n_changes] = -1
                            change_keys[n_changes + 1] = new << 32 | following
                            change_signs[n_changes + 1] = 1
                            n_changes += 2
                        symbols[write] = new
                        read += 2
                    else:
                        symbols[write] = symbols[read]
                        read += 1
                    write += 1
                merged = (end - write) * count
                lengths[w] = write - start
                if likelihood:
                    pair_counts[find_pair(pair_keys, key)] -= merged
                    symbol_counts[left] -= merged
                    symbol_counts[right] -= merged
                    symbol_counts[new] += merged

            for c in range(n_changes):
                slot = find_pair(pair_keys, change_keys[c])
                if pair_keys[slot] < 0:
                    pair_keys[slot] = change_keys[c]
                    n_pairs += 1
                    if 2 * n_pairs > len(pair_keys):
                        old_keys = pair_keys
                        old_counts = pair_counts
                        old_lists = pair_lists
                        pair_keys = np.full(2 * len(old_keys), -1, np.int64)
                        pair_counts = np.zeros(2 * len(old_keys), np.int64)
                        pair_lists = np.full(2 * len(old_keys), -1, np.int32)
                        for old in range(len(old_keys)):
                            if old_keys[old] >= 0:
                                slot = find_pair(pair_keys, old_keys[old])
                                pair_keys[slot] = old_keys[old]
                                pair_counts[slot] = old_counts[old]
                                pair_lists[slot] = old_lists[old]
                        slot = find_pair(pair_keys, change_keys[c])
                pair_counts[slot] += change_signs[c] * count
                if change_signs[c] < 0:
                    continue
                mine = pair_lists[slot]
                if mine < 0:
                    if n_lists == len(list_pairs):
                        list_pairs = doubled(list_pairs)
                        list_heads = doubled(list_heads)
                    mine = np.int32(n_lists)
                    list_pairs[mine] = change_keys[c]
                    list_heads[mine] = -1
                    pair_lists[slot] = mine
                    n_lists += 1
                top = list_heads[mine]
                if top >= 0 and node_words[top] == w:
                    continue
                if free >= 0:
                    fresh = free
                    free = node_next[free]
                else:
                    if n_nodes == len(node_words):
                        node_words = doubled(node_words)
                        node_next = doubled(node_next)
                    fresh = np.int32(n_nodes)
                    n_nodes += 1
                node_words[fresh] = w
                node_next[fresh] = top
                list_heads[mine] = fresh

        if not first:
            if last_node >= 0:
                node_next[last_node] = free
                free = list_heads[current]
            list_heads[current] = DONE

        # Queue the new lists; for `likelihood` also the pairs whose parts became rarer.
        n_push = 0
        for mine in range(first_list, n_lists):
            slot = find_pair(pair_keys, list_pairs[mine])
            pair_lists[slot] = -1
            if pair_counts[slot] <= 0:
                continue
            if n_push == len(to_push):
                to_push = doubled(to_push)
            to_push[n_push] = mine
            n_push += 1
            if likelihood:
                for side in range(2):
                    symbol = list_pairs[mine] >> 32 if side == 0 else list_pairs[mine] & 0xFFFFFFFF
                    if n_near == len(near_lists):
                        near_lists = doubled(near_lists)
                        near_next = doubled(near_next)
                    near_lists[n_near] = mine
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
                    mine = near_lists[near]
                    if list_heads[mine] != DONE:
                        near_next[near] = kept
                        kept = near
                        if mine < first_list:
                            if n_push == len(to_push):
                                to_push = doubled(to_push)
                            to_push[n_push] = mine
                            n_push += 1
                    near = after
                near_heads[symbol] = kept
        for p in range(n_push):
            mine = to_push[p]
            if n_entries == len(entry_lists):
                entry_scores = doubled(entry_scores)
                entry_pairs = doubled(entry_pairs)
                entry_lists = doubled(entry_lists)
                entry_serials = doubled(entry_serials)
                heap = doubled(heap)
            pair = list_pairs[mine]
            count = pair_counts[find_pair(pair_keys, pair)]
            entry_scores[n_entries] = score_of(pair, count, symbol_counts, likelihood)
            entry_pairs[n_entries] = pair
            entry_lists[n_entries] = mine
            serial += 1
            entry_serials[n_entries] = serial
            heap[heap_size] = n_entries
            sift_up(heap, heap_size, entry_scores, entry_pairs, entry_serials)
            n_entries += 1
            heap_size += 1
        first = False
    return merges[:n_merges]
