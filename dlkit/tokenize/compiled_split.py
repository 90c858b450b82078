"""Cutting text into pre-tokens, and counting them, in compiled loops over UTF-8 bytes.

Each function gives exactly what the pattern of the same name in splitting.py gives (tested).
Text must be valid UTF-8. Integers are int64 throughout: numba turns int64 mixed with uint64
into floats.
"""

from functools import cache

import numpy as np
from numba import njit

GPT2, GPT4, WHITESPACE, BERT = range(4)
MODES = {"gpt2": GPT2, "gpt4": GPT4, "whitespace": WHITESPACE, "bert": BERT}
OTHER, LETTER, NUMBER, SPACE, NEWLINE, PUNCTUATION = range(6)

EXACT = 7  # longest piece whose key is the piece itself
LONG = np.int64(-(2**63))
MIX = np.int64(-7046029254386353131)  # 2^64 / golden ratio: spreads keys over the table


@cache
def kinds(mode: int) -> np.ndarray:
    """The kind of every code point, as the module `regex` classifies it."""
    import regex

    # The planes from 4 on hold no letter, number, space or punctuation.
    everything = "".join(map(chr, range(0x40000)))
    table = np.zeros(0x110000, np.uint8)
    classes = {r"\s+": SPACE}
    if mode == BERT:
        classes[r"[\p{P}$+<=>^`|~]+"] = PUNCTUATION
    elif mode != WHITESPACE:
        classes |= {r"\p{L}+": LETTER, r"\p{N}+": NUMBER}
    for pattern, kind in classes.items():
        for match in regex.finditer(pattern, everything):
            table[match.start() : match.end()] = kind
    if mode == GPT4:
        table[[10, 13]] = NEWLINE
    return table


@njit(cache=True, nogil=True, inline="always")
def code_point(data, i):
    """The code point that starts at byte i, and its length in bytes."""
    c = np.int64(data[i])
    if c < 0x80:
        return c, 1
    if c < 0xE0:
        return (c & 0x1F) << 6 | np.int64(data[i + 1] & 0x3F), 2
    if c < 0xF0:
        return (
            (c & 0x0F) << 12 | np.int64(data[i + 1] & 0x3F) << 6 | np.int64(data[i + 2] & 0x3F),
            3,
        )
    return (
        (c & 0x07) << 18
        | np.int64(data[i + 1] & 0x3F) << 12
        | np.int64(data[i + 2] & 0x3F) << 6
        | np.int64(data[i + 3] & 0x3F),
        4,
    )


@njit(cache=True, nogil=True, inline="always")
def run_end(data, i, end, kind, table):
    """Where the run of characters of this kind that covers byte i ends."""
    while i < end:
        c = data[i]
        if c < 0x80:
            if table[c] != kind:
                break
            i += 1
        else:
            point, length = code_point(data, i)
            if table[point] != kind:
                break
            i += length
    return i


@njit(cache=True, nogil=True)
def contraction_end(data, i, end, fold):
    """The end of 's 't 'm 'd 'll 've 're after the apostrophe at i; i if there is none."""
    if i + 1 >= end:
        return i
    a = data[i + 1]
    if fold and 65 <= a <= 90:
        a += 32
    if a == 115 or a == 100 or a == 109 or a == 116:
        return i + 2
    if i + 2 >= end:
        return i
    b = data[i + 2]
    if fold and a == 0xC5 and b == 0xBF:  # the long s, which folds to s
        return i + 3
    if fold and 65 <= b <= 90:
        b += 32
    if (a == 108 and b == 108) or (a == 118 and b == 101) or (a == 114 and b == 101):
        return i + 3
    return i


@njit(cache=True, nogil=True)
def space_end(data, i, end, table):
    """`\\s*[\\r\\n]|\\s+(?!\\S)|\\s`, or all of it at the end; NEWLINE occurs for gpt4 only."""
    j = i
    last = i  # start of the last character of the run
    newline = i
    while j < end:
        point, length = code_point(data, j)
        kind = table[point]
        if kind != SPACE and kind != NEWLINE:
            break
        last = j
        j += length
        if kind == NEWLINE:
            newline = j
    if j == end:
        return j
    if newline > i:
        return newline
    return last if last > i else j


@njit(cache=True, nogil=True)
def gpt2_end(data, i, end, table):
    if data[i] == 39:
        j = contraction_end(data, i, end, False)
        if j > i:
            return j
    point, length = code_point(data, i)
    kind = table[point]
    j = i
    if point == 32 and i + 1 < end:
        after, _ = code_point(data, i + 1)
        if table[after] != SPACE:
            j = i + 1
            kind = table[after]
    if kind == SPACE:
        return space_end(data, i, end, table)
    return run_end(data, j, end, kind, table)


@njit(cache=True, nogil=True)
def gpt4_end(data, i, end, table):
    if data[i] == 39:
        j = contraction_end(data, i, end, True)
        if j > i:
            return j
    point, length = code_point(data, i)
    kind = table[point]
    if kind == LETTER:
        return run_end(data, i + length, end, LETTER, table)
    if kind == NUMBER:
        j = i + length
        for _ in range(2):
            if j < end:
                point, length = code_point(data, j)
                if table[point] != NUMBER:
                    break
                j += length
        return j
    j = i + length
    after = np.int64(-1)
    if j < end:
        after, _ = code_point(data, j)
        if kind != NEWLINE and table[after] == LETTER:
            return run_end(data, j, end, LETTER, table)
    if kind == OTHER or (point == 32 and after >= 0 and table[after] == OTHER):
        return run_end(data, run_end(data, j, end, OTHER, table), end, NEWLINE, table)
    return space_end(data, i, end, table)


@njit(cache=True, nogil=True, inline="always")
def piece_end(data, i, end, table, mode):
    """The end of the piece that starts at i: a pre-token, or for two modes the spaces between."""
    if mode == GPT2:
        return gpt2_end(data, i, end, table)
    if mode == GPT4:
        return gpt4_end(data, i, end, table)
    point, length = code_point(data, i)
    kind = table[point]
    if kind == PUNCTUATION:
        return i + length
    return run_end(data, i + length, end, kind, table)


@njit(cache=True, nogil=True, inline="always")
def is_dropped(data, i, table, mode):
    """Whether the piece at i is whitespace that only separates."""
    return mode >= WHITESPACE and table[code_point(data, i)[0]] == SPACE


@njit(cache=True, nogil=True, inline="always")
def key_of(data, i, j):
    """A number for data[i:j]: the bytes themselves if they are at most EXACT, else a hash < 0."""
    length = j - i
    if length <= EXACT:
        key = np.int64(length) << 56
        for k in range(length):
            key |= np.int64(data[i + k]) << (8 * k)
        return key
    key = np.int64(length)
    for k in range(i, j):
        key = (key ^ np.int64(data[k])) * np.int64(1099511628211)
    return key | LONG


@njit(cache=True, nogil=True, inline="always")
def same(data, i, pool, start, length):
    k = 0
    while k < length and data[i + k] == pool[start + k]:
        k += 1
    return k == length


@njit(cache=True, nogil=True, inline="always")
def find(table, pool, data, i, j, key):
    """The row of data[i:j] in a table of (key, start in pool, length, value), or the free one."""
    mask = len(table) - 1
    row = ((key * MIX) >> 24) & mask
    while table[row, 0] != 0:
        if table[row, 0] == key and (
            key > 0
            or (table[row, 2] == j - i and same(data, i, pool, table[row, 1], np.int64(j - i)))
        ):
            return row
        row = (row + 1) & mask
    return row


@njit(cache=True, nogil=True)
def larger(table):
    """The same rows in a table of twice the size."""
    new = np.zeros((2 * len(table), 4), np.int64)
    mask = len(new) - 1
    for old in range(len(table)):
        if table[old, 0] != 0:
            row = ((table[old, 0] * MIX) >> 24) & mask
            while new[row, 0] != 0:
                row = (row + 1) & mask
            new[row] = table[old]
    return new


@njit(cache=True, nogil=True)
def larger_pool(pool, least):
    new = np.empty(max(2 * len(pool), least), np.uint8)
    new[: len(pool)] = pool
    return new


@njit(cache=True, nogil=True)
def count_pieces(data, kind_table, mode, table, pool, used, pool_used):
    """Count the pieces of each line (with its end) of `data` in the table's last column.

    Returns table and pool, which grow, and how much of them is used.
    """
    size = len(data)
    i = 0
    while i < size:
        end = i
        while end < size and data[end] != 10:
            end += 1
        end = min(end + 1, size)
        while i < end:
            j = piece_end(data, i, end, kind_table, mode)
            if not is_dropped(data, i, kind_table, mode):
                key = key_of(data, i, j)
                row = find(table, pool, data, i, j, key)
                if table[row, 0] == 0:
                    length = j - i
                    if pool_used + length > len(pool):
                        pool = larger_pool(pool, pool_used + length)
                    pool[pool_used : pool_used + length] = data[i:j]
                    table[row, 0] = key
                    table[row, 1] = pool_used
                    table[row, 2] = length
                    table[row, 3] = 1
                    pool_used += length
                    used += 1
                    if 2 * used > len(table):
                        table = larger(table)
                else:
                    table[row, 3] += 1
            i = j
    return table, pool, used, pool_used


@njit(cache=True, nogil=True)
def add_counts(other, other_pool, table, pool, used, pool_used):
    """Add the counts of one table to another's."""
    for source in range(len(other)):
        if other[source, 0] == 0:
            continue
        start = other[source, 1]
        length = other[source, 2]
        row = find(table, pool, other_pool, start, start + length, other[source, 0])
        if table[row, 0] != 0:
            table[row, 3] += other[source, 3]
            continue
        if pool_used + length > len(pool):
            pool = larger_pool(pool, pool_used + length)
        pool[pool_used : pool_used + length] = other_pool[start : start + length]
        table[row] = other[source]
        table[row, 1] = pool_used
        pool_used += length
        used += 1
        if 2 * used > len(table):
            table = larger(table)
    return table, pool, used, pool_used


@njit(cache=True, nogil=True)
def piece_bounds(data, kind_table, mode):
    """Start and end of every piece of one text, for tests."""
    bounds = np.empty((len(data), 2), np.int64)
    n = 0
    i = 0
    while i < len(data):
        j = piece_end(data, i, len(data), kind_table, mode)
        if not is_dropped(data, i, kind_table, mode):
            bounds[n, 0] = i
            bounds[n, 1] = j
            n += 1
        i = j
    return bounds[:n]
