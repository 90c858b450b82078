"""Compiled parser of text files of vectors: lines of `word number number ...`.

Shapes: L lines, D numbers a line.
"""

import numpy as np

from dlkit.core.numba_tools import njit

VALID, TOO_SHORT, TOO_LONG, NOT_A_NUMBER, NO_WORD = range(5)
LARGEST = 3.4028235677973366e38  # numbers from here on are infinite in single precision


@njit(cache=True, nogil=True)
def find_line_starts(text):
    """Return the start of each line (L + 1); the last entry is the start of a line after them."""
    count = 0
    for byte in text:
        count += byte == 10
    if len(text) and text[-1] != 10:
        count += 1
    starts = np.empty(count + 1, np.int64)
    starts[0] = 0
    line = 1
    for place in range(len(text)):
        if text[place] == 10:
            starts[line] = place + 1
            line += 1
    if line <= count:
        starts[line] = len(text) + 1
    return starts


@njit(cache=True, nogil=True)
def parse_lines(text, starts, first, vectors, ends):
    """Fill `vectors` (L, D) and the `ends` of the words (L) from the lines from `first` on.

    Returns the line where it stopped, and VALID or the error in that line.
    """
    dim = vectors.shape[1]
    for row in range(len(vectors)):
        line = first + row
        begin, end = starts[line], starts[line + 1] - 1
        while end > begin and is_space(text[end - 1]):
            end -= 1
        place = end
        for _ in range(dim):
            while place > begin and not is_space(text[place - 1]):
                place -= 1
            if place == begin:
                return line, TOO_SHORT
            word_end = place
            while word_end > begin and is_space(text[word_end - 1]):
                word_end -= 1
            place = word_end
        if place == begin:
            return line, NO_WORD
        ends[row] = place
        before = place
        while before > begin and not is_space(text[before - 1]):
            before -= 1
        extra = before > begin and parse_number(text, before, place)[1]
        # A word may end in digits, as in `at 5`, where no number of the vector looks like them.
        if extra and not is_digits(text, before, place):
            return line, TOO_LONG
        for column in range(dim):
            while is_space(text[place]):
                place += 1
            stop = place
            while stop < end and not is_space(text[stop]):
                stop += 1
            value, valid = parse_number(text, place, stop)
            if not valid or abs(value) >= LARGEST:
                return line, NOT_A_NUMBER
            if extra and is_digits(text, place, stop):
                return line, TOO_LONG
            vectors[row, column] = value
            place = stop
    return first + len(vectors), VALID


@njit(cache=True, nogil=True)
def count_cells(text, starts, lines):
    """Return the number of cells between spaces in each of these lines (L)."""
    counts = np.zeros(len(lines), np.int64)
    for row in range(len(lines)):
        inside = False
        for place in range(starts[lines[row]], starts[lines[row] + 1] - 1):
            space = is_space(text[place])
            counts[row] += inside < (not space)
            inside = not space
    return counts


@njit(cache=True, nogil=True)
def is_digits(text, place, end):
    """Whether text[place:end] has a sign and digits alone."""
    if text[place] == 45 or text[place] == 43:
        place += 1
    for at in range(place, end):  # noqa: SIM110 (numba has no generators here)
        if not 48 <= text[at] <= 57:
            return False
    return True


@njit(cache=True, nogil=True, inline="always")
def is_space(byte):
    return byte == 32 or byte == 9 or byte == 13


@njit(cache=True, nogil=True)
def parse_number(text, place, end):
    """Return the decimal number in text[place:end] and whether it is one; inf and nan are not."""
    sign = 1.0
    if place < end and (text[place] == 45 or text[place] == 43):
        if text[place] == 45:
            sign = -1.0
        place += 1
    mantissa = np.int64(0)
    power = 0
    digits = 0
    point = False
    while place < end:
        byte = text[place]
        if 48 <= byte <= 57:
            if mantissa < 100_000_000_000_000_000:
                mantissa = mantissa * 10 + np.int64(byte - 48)
                power -= point
            else:
                power += not point
            digits += 1
        elif byte == 46 and not point:
            point = True
        else:
            break
        place += 1
    if digits == 0:
        return 0.0, False
    if place < end and (text[place] == 101 or text[place] == 69):
        place += 1
        negative = place < end and text[place] == 45
        if place < end and (text[place] == 45 or text[place] == 43):
            place += 1
        if place == end:
            return 0.0, False
        exponent = 0
        while place < end and 48 <= text[place] <= 57 and exponent < 10_000:
            exponent = exponent * 10 + np.int64(text[place] - 48)
            place += 1
        power += -exponent if negative else exponent
    if place != end:
        return 0.0, False
    return sign * (mantissa * 10.0**power if power >= 0 else mantissa / 10.0**-power), True
