"""A hash table from byte strings to numbers, for compiled loops.

A row is four numbers: low and high (the key), start, value. A string of at most EXACT bytes is its
own key, with its length in the top byte of `high`; a longer one has a hash as `low`, a negative
`high`, and its bytes in a pool from `start` on. The pool holds the short ones too, in the order of
insertion.

Integers are int64, since numba turns int64 mixed with uint64 into floats; numbers that may overflow
are uint64, since overflow of int64 is undefined there.
"""

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from dlkit.core.numba_tools import item, njit, pointer

EXACT = 15
LONG = np.int64(-(2**63))
# Odd multipliers without pattern, which spread keys over the table.
MIX = np.uint64(0x9E3779B97F4A7C15)
MIX_HIGH = np.uint64(0xC2B2AE3D27D4EB4F)
SHIFT = np.uint64(30)  # keeps the bits that a product mixes best
INITIAL_ROWS = 1 << 12


@intrinsic
def load8(typing_context, array, index):
    """Read eight bytes from `index` on as one little-endian number."""

    def generate(context, builder, signature, args):
        address = pointer(context, builder, signature.args[0], *args)
        return builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)

    return types.int64(array, index), generate


@intrinsic
def store8(typing_context, array, index, number):
    """Write a number as eight bytes, as load8 reads it."""

    def generate(context, builder, signature, args):
        address = pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, index, types.int64), generate


@intrinsic
def trailing_zeros(typing_context, number):
    """The number of zero bits below the lowest set bit."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@njit(cache=True, nogil=True, forceinline=True)
def string_key(data, i, j):
    """The key of data[i:j], which must not be empty."""
    n = j - i
    if n > EXACT or i + 16 > len(data):
        return key_byte_by_byte(data, i, j)
    if n < 8:
        return load8(data, i) & ((np.int64(1) << 8 * n) - 1), n << 56
    high = load8(data, i + 8) & ((np.int64(1) << 8 * (n - 8)) - 1)
    return load8(data, i), high | n << 56


@njit(cache=True, nogil=True)
def key_byte_by_byte(data, i, j):
    n = np.int64(j - i)
    if n > EXACT:
        low = np.uint64(n)
        while i + 8 <= j:
            low = (low ^ np.uint64(load8(data, i))) * MIX
            low ^= low >> SHIFT
            i += 8
        for k in range(i, j):
            low = (low ^ np.uint64(data[k])) * MIX
        return np.int64(low), n | LONG
    low = np.int64(0)
    high = n << 56
    for k in range(n):
        if k < 8:
            low |= np.int64(data[i + k]) << 8 * k
        else:
            high |= np.int64(data[i + k]) << 8 * (k - 8)
    return low, high


@njit(cache=True, nogil=True, forceinline=True)
def first_row(table, low, high):
    """The row where the search for a key begins."""
    mixed = (np.uint64(low) ^ np.uint64(high) * MIX_HIGH) * MIX >> SHIFT
    return np.int64(mixed) & (len(table) - 4)


@njit(cache=True, nogil=True)
def equal_bytes(data, i, pool, start, n):
    k = 0
    while k < n and data[i + k] == pool[start + k]:
        k += 1
    return k == n


@njit(cache=True, nogil=True, forceinline=True)
def find(table, pool, data, i, low, high):
    """The row of the string at data[i] with this key, or a free row for it."""
    row = first_row(table, low, high)
    while item(table, row + 1) != 0:
        if (
            item(table, row) == low
            and item(table, row + 1) == high
            and (high > 0 or equal_bytes(data, i, pool, table[row + 2], high & ~LONG))
        ):
            break
        row = (row + 4) & (len(table) - 1)
    return row


@njit(cache=True, nogil=True)
def grow_table(table):
    """Copy the rows into a table of twice the size."""
    new = np.zeros(2 * len(table), np.int64)
    for old in range(0, len(table), 4):
        if table[old + 1] != 0:
            row = first_row(new, table[old], table[old + 1])
            while new[row + 1] != 0:
                row = (row + 4) & (len(new) - 1)
            new[row : row + 4] = table[old : old + 4]
    return new


@njit(cache=True, nogil=True)
def grow_bytes(array, least):
    """Copy the bytes into an array of twice the size, or of size `least`."""
    new = np.empty(max(2 * len(array), least), np.uint8)
    new[: len(array)] = array
    return new


@njit(cache=True, nogil=True)
def insert(table, pool, used, pool_used, row, low, high, data, i, j, value):
    """Put data[i:j] in a free row; returns table and pool, which grow, and their used sizes."""
    if pool_used + j - i > len(pool):
        pool = grow_bytes(pool, pool_used + j - i)
    pool[pool_used : pool_used + j - i] = data[i:j]
    table[row] = low
    table[row + 1] = high
    table[row + 2] = pool_used
    table[row + 3] = value
    pool_used += j - i
    used += 1
    if 8 * used > len(table):
        table = grow_table(table)
    return table, pool, used, pool_used


def empty() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], int, int]:
    """An empty table, its pool, and their used sizes."""
    return np.zeros(4 * INITIAL_ROWS, np.int64), np.empty(1 << 16, np.uint8), 0, 0


@njit(cache=True, nogil=True)
def fill(table, pool, used, pool_used, data, starts, values):
    """Add the strings data[starts[n] : starts[n + 1]] with their values."""
    for n in range(len(values)):
        i = starts[n]
        j = starts[n + 1]
        if j > i:
            low, high = string_key(data, i, j)
            row = find(table, pool, data, i, low, high)
            if table[row + 1] != 0:
                table[row + 3] = values[n]
            else:
                table, pool, used, pool_used = insert(
                    table, pool, used, pool_used, row, low, high, data, i, j, values[n]
                )
    return table, pool, used, pool_used


@njit(cache=True, nogil=True, forceinline=True)
def pair_row(table, key, width):
    """The row where the search for a pair begins."""
    return np.int64(np.uint64(key) * MIX >> SHIFT) * width & (len(table) - 1)


@njit(cache=True, nogil=True, forceinline=True)
def find_pair(table, key, width):
    """The row of a pair in a table of rows of `width` numbers that begin with left << 32 | right.

    A free row begins with a negative number.
    """
    row = pair_row(table, key, width)
    while item(table, row) != key and item(table, row) >= 0:
        row = (row + width) & (len(table) - 1)
    return row
