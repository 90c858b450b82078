"""Compiled pre-tokenization of UTF-8 bytes, and counting of pre-tokens.

The pieces equal those of the patterns of the same names in pretokenize.py (tested). Text must be
valid UTF-8.
"""

from functools import cache

import numpy as np

from dlkit.core.numba_tools import item, njit, prefetch
from dlkit.tokenize.compiled_table import (
    LONG,
    find,
    first_row,
    insert,
    load8,
    string_key,
    trailing_zeros,
)
from dlkit.tokenize.pretokenize import as_classed

GPT2, GPT4, WHITESPACE, ASCII_WHITESPACE, BERT, CHARACTERS, NONE = range(7)
MODES = {
    "gpt2": GPT2,
    "gpt4": GPT4,
    "whitespace": WHITESPACE,
    "ascii-whitespace": ASCII_WHITESPACE,
    "bert": BERT,
    "characters": CHARACTERS,
    "none": NONE,
}
OTHER, LETTER, NUMBER, SPACE, NEWLINE, PUNCTUATION = range(6)

BATCH = 256  # pieces that are split before they are looked up, to hide memory latency


def repeat_byte(byte: int) -> np.uint64:
    """Eight times the byte as one number."""
    return np.uint64(int.from_bytes(bytes([byte]) * 8, "little"))


# A byte up to 0x7F plus 0x80 - x has its top bit set if the byte is at least x.
TOP, REST, LOWER = repeat_byte(0x80), repeat_byte(0x7F), repeat_byte(0x20)
FROM_A, ABOVE_Z = repeat_byte(0x80 - ord("a")), repeat_byte(0x7F - ord("z"))
FROM_0, ABOVE_9 = repeat_byte(0x80 - ord("0")), repeat_byte(0x7F - ord("9"))
ABOVE_SPACE, FROM_DELETE = repeat_byte(0x7F - ord(" ")), repeat_byte(0x80 - 0x7F)


@cache
def character_kinds(mode: int) -> np.ndarray:
    """The kind of every code point, as the module `regex` classifies it."""
    import regex

    # The planes from 4 on have no letter, number, space or punctuation.
    name = next(name for name, number in MODES.items() if number == mode)
    everything = as_classed(name, "".join(map(chr, range(0x40000))))
    table = np.zeros(0x110000, np.uint8)
    classes = {r"[\t\n\v\f\r ]+" if mode == ASCII_WHITESPACE else r"\s+": SPACE}
    if mode == BERT:
        classes[r"[\p{P}$+<=>^`|~]+"] = PUNCTUATION
    elif mode <= GPT4:
        classes |= {r"\p{L}+": LETTER, r"\p{N}+": NUMBER}
    for pattern, kind in classes.items():
        for match in regex.finditer(pattern, everything):
            table[match.start() : match.end()] = kind
    if mode == GPT4:
        table[[10, 13]] = NEWLINE
    return table


@njit(cache=True, nogil=True, forceinline=True)
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


@njit(cache=True, nogil=True, forceinline=True)
def run_end(data, i, end, kind, table):
    """The end of the run of characters of this kind that covers byte i."""
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
    """The end of 's 't 'm 'd 'll 've 're at the apostrophe i; i if there is no contraction."""
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
    """The end of `\\s*[\\r\\n]|\\s+(?!\\S)|\\s` at i, or `end`; NEWLINE occurs for gpt4 only."""
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


@njit(cache=True, nogil=True, forceinline=True)
def piece_end(data, i, end, table, mode):
    """The end of the piece at i: a pre-token, or in two modes the spaces between pre-tokens."""
    if mode == GPT2:
        return gpt2_end(data, i, end, table)
    if mode == GPT4:
        return gpt4_end(data, i, end, table)
    if mode == NONE:
        return end
    point, length = code_point(data, i)
    kind = table[point]
    if kind == PUNCTUATION or mode == CHARACTERS:
        return i + length
    return run_end(data, i + length, end, kind, table)


@njit(cache=True, nogil=True, forceinline=True)
def is_dropped(data, i, table, mode):
    """Whether the piece at i is white space that only separates."""
    return spaces_separate(mode) and table[code_point(data, i)[0]] == SPACE


@njit(cache=True, nogil=True, forceinline=True)
def spaces_separate(mode):
    """Whether spaces are between the pieces, not in them."""
    return WHITESPACE <= mode <= BERT


@njit(cache=True, nogil=True, forceinline=True)
def stops(eight, mode):
    """Set the top bit of each of eight bytes that ends a word of ASCII characters."""
    eight = np.uint64(eight)
    low = eight & REST
    if WHITESPACE <= mode <= ASCII_WHITESPACE:
        inside = low + ABOVE_SPACE & ~(low + FROM_DELETE)
    else:
        inside = (low | LOWER) + FROM_A & ~((low | LOWER) + ABOVE_Z)
        if mode == BERT:
            inside |= low + FROM_0 & ~(low + ABOVE_9)
    return np.int64((eight | ~inside) & TOP)


@njit(cache=True, nogil=True, forceinline=True)
def word_end(data, i, end, kind_table, mode):
    """The end of the piece at i if it is a plain ASCII word; i if `piece_end` must find it.

    Most pieces are such words, and are read eight bytes at a time.
    """
    if mode > BERT or i + 8 > len(data):
        return i
    eight = load8(data, i)
    stop = stops(eight, mode)
    first = i
    if mode <= GPT4 and eight & 0xFF == 32:
        first = i + 1
        stop &= ~np.int64(0x80)
    j = i
    while stop == 0:
        j += 8
        if j + 8 > len(data):
            return i
        stop = stops(load8(data, j), mode)
    j += trailing_zeros(stop) >> 3
    if j == first or j > end:
        return i
    after = item(data, j)
    if after >= 0x80 or (mode > GPT4 and kind_table[after] == OTHER):
        return i
    return j


@njit(cache=True, nogil=True)
def split_batch(data, starts, ends, text, i, kind_table, mode, table, batch):
    """Split from byte i of the text data[starts[text] : ends[text]] on, up to a full batch.

    The batch gets rows of start, end and key; a row with 0 for the key's high part ends a text.
    Returns the number of rows, and the text and byte to continue with.
    """
    n = 0
    while n < BATCH and text < len(starts):
        end = ends[text]
        while i < end and n < BATCH:
            j = word_end(data, i, end, kind_table, mode)
            if j == i:
                if spaces_separate(mode) and item(data, i) == 32:
                    i += 1
                    continue
                j = piece_end(data, i, end, kind_table, mode)
                if is_dropped(data, i, kind_table, mode):
                    i = j
                    continue
            low, high = string_key(data, i, j)
            prefetch(table, first_row(table, low, high))
            batch[n, 0] = i
            batch[n, 1] = j
            batch[n, 2] = low
            batch[n, 3] = high
            n += 1
            i = j
        if i >= end and n < BATCH:
            batch[n, 3] = 0
            n += 1
            text += 1
            if text < len(starts):
                i = starts[text]
    return n, text, i


@njit(cache=True, nogil=True)
def count_known(data, table, pool, batch, k, n):
    """Count the batch's pieces from row k on; returns the first row not in the table, or n.

    A loop of its own: numba counts references to arrays that are replaced in a loop, each time.
    """
    while k < n:
        high = batch[k, 3]
        if high != 0:
            row = find(table, pool, data, batch[k, 0], batch[k, 2], high)
            if item(table, row + 1) == 0:
                break
            table[row + 3] += 1
        k += 1
    return k


@njit(cache=True, nogil=True)
def count_pieces(data, starts, ends, kind_table, mode, table, pool, used, pool_used):
    """Count the pieces of each text data[starts[n] : ends[n]] as the table's values.

    Returns table and pool, which grow, and their used sizes.
    """
    batch = np.empty((BATCH, 4), np.int64)
    text = 0
    i = starts[0] if len(starts) else 0
    while text < len(starts):
        n, text, i = split_batch(data, starts, ends, text, i, kind_table, mode, table, batch)
        k = count_known(data, table, pool, batch, 0, n)
        while k < n:
            start, low, high = batch[k, 0], batch[k, 2], batch[k, 3]
            row = find(table, pool, data, start, low, high)
            table, pool, used, pool_used = insert(
                table, pool, used, pool_used, row, low, high, data, start, batch[k, 1], 1
            )
            k = count_known(data, table, pool, batch, k + 1, n)
    return table, pool, used, pool_used


@njit(cache=True, nogil=True)
def add_counts(other, other_pool, table, pool, used, pool_used):
    """Add the counts of one table to another's."""
    for source in range(0, len(other), 4):
        low, high = other[source], other[source + 1]
        if high == 0:
            continue
        start = other[source + 2]
        row = find(table, pool, other_pool, start, low, high)
        if table[row + 1] != 0:
            table[row + 3] += other[source + 3]
        else:
            end = start + (high >> 56 if high > 0 else high & ~LONG)
            table, pool, used, pool_used = insert(
                table, pool, used, pool_used, row, low, high, other_pool, start, end,
                other[source + 3],
            )  # fmt: skip
    return table, pool, used, pool_used


def line_bounds(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each line, without the line feed."""
    ends = np.flatnonzero(data == 10)
    if len(data) and data[-1] != 10:
        ends = np.append(ends, len(data))
    return np.append(0, ends[:-1] + 1)[: len(ends)], ends
