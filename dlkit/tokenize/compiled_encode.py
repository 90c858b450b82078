"""Encoding of large inputs: compiled pre-tokenization, and a table of the ids of known pre-tokens.

The ids equal those of Tokenizer.encode (tested), for the patterns of compiled_split.py.
"""

import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlkit.core.numba_tools import compile_notice, item, njit
from dlkit.tokenize import compiled_table
from dlkit.tokenize.bpe import Ranks
from dlkit.tokenize.compiled_split import (
    BATCH,
    character_kinds,
    code_point,
    line_bounds,
    split_batch,
)
from dlkit.tokenize.compiled_table import (
    find,
    find_pair,
    grow_bytes,
    insert,
    load8,
    store8,
    string_key,
)
from dlkit.tokenize.normalize import normalize, normalize_lines
from dlkit.tokenize.wordpiece import LONGEST_WORD

BYTES, CHARS, LONGEST_MATCH, WHOLE = range(4)  # methods to encode a pre-token
PLAIN, END_MARKED, START_MARKED = range(3)  # marks of symbols
CODE_POINTS = 0x110000
MAX_CACHED = 256  # bytes of a piece that goes into the table
MAX_PIECES = 1 << 19  # in the table, which is then emptied
MAX_BYTES = 1 << 25
SHORT = 32  # symbols that are merged without a queue
WINDOW = 1 << 16  # bytes of a piece that are merged at once
CHUNK = 1 << 20  # characters of texts that a thread takes at once


@njit(cache=True, nogil=True)
def pair_table(pairs):
    """A table of rows left << 32 | right, rank << 32 | result, from an array of these four."""
    size = 1 << 4
    while size < 3 * len(pairs):
        size *= 2
    table = np.full(2 * size, -1, np.int64)
    for n in range(len(pairs)):
        key = pairs[n, 0] << 32 | pairs[n, 1]
        row = find_pair(table, key, 2)
        table[row] = key
        table[row + 1] = pairs[n, 2] << 32 | pairs[n, 3]
    return table


@njit(cache=True, nogil=True, forceinline=True)
def pair_rank(pairs, left, right):
    """rank << 32 | result of a pair; -1 if there is no such merge."""
    row = find_pair(pairs, left << 32 | right, 2)
    return pairs[row + 1] if pairs[row] >= 0 else np.int64(-1)


@njit(cache=True, nogil=True)
def push(heap, size, entry):
    at = size
    while at > 0 and entry < heap[(at - 1) >> 1]:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = entry


@njit(cache=True, nogil=True)
def pop(heap, size):
    """Remove and return the smallest entry."""
    top = heap[0]
    size -= 1
    entry = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = entry
    return top


@njit(cache=True, nogil=True)
def merge_short(symbols, n, pairs, ranks):
    """bpe.apply_merges on the first n symbols, in place; returns the number of symbols left.

    `ranks` is a buffer of n numbers.
    """
    for k in range(n - 1):
        ranks[k] = pair_rank(pairs, symbols[k], symbols[k + 1])
    while True:
        best = -1
        for k in range(n - 1):
            if ranks[k] >= 0 and (best < 0 or ranks[k] >> 32 < ranks[best] >> 32):
                best = k
        if best < 0:
            return n
        symbols[best] = ranks[best] & 0xFFFFFFFF
        n -= 1
        for k in range(best + 1, n):
            symbols[k] = symbols[k + 1]
            ranks[k - 1] = ranks[k]
        ranks[n - 1] = -1
        if best > 0:
            ranks[best - 1] = pair_rank(pairs, symbols[best - 1], symbols[best])
        if best < n - 1:
            ranks[best] = pair_rank(pairs, symbols[best], symbols[best + 1])


@njit(cache=True, nogil=True)
def merge(symbols, places, n, pairs):
    """merge_short with a queue. `places` becomes the place of each merged symbol's first part."""
    following = np.arange(1, n + 1)
    preceding = np.arange(-1, n - 1)
    heap = np.empty(3 * n, np.int64)  # rank << 32 | position
    size = 0
    for i in range(n - 1):
        rank = pair_rank(pairs, symbols[i], symbols[i + 1])
        if rank >= 0:
            push(heap, size, rank >> 32 << 32 | i)
            size += 1
    while size > 0:
        top = pop(heap, size)
        size -= 1
        i = top & 0xFFFFFFFF
        if symbols[i] < 0 or following[i] >= n:
            continue
        j = following[i]
        rank = pair_rank(pairs, symbols[i], symbols[j])
        if rank < 0 or rank >> 32 != top >> 32:
            continue  # one of the two was merged in the meantime
        symbols[i] = rank & 0xFFFFFFFF
        symbols[j] = -1
        following[i] = following[j]
        if following[i] < n:
            preceding[following[i]] = i
        for side in range(2):
            a = i if side == 0 else preceding[i]
            if a < 0 or following[a] >= n:
                continue
            rank = pair_rank(pairs, symbols[a], symbols[following[a]])
            if rank >= 0:
                push(heap, size, rank >> 32 << 32 | a)
                size += 1
    left = 0
    for i in range(n):
        if symbols[i] >= 0:
            symbols[left] = symbols[i]
            places[left] = places[i]
            left += 1
    return left


@njit(cache=True, nogil=True)
def first_symbols(data, at, stop, i, j, model, symbols, places):
    """The symbols of data[at:stop], a part of the piece data[i:j], and their places."""
    kind, unknown, plain, marked, mark, word_start = model[2:8]
    n = 0
    if kind == BYTES:
        for k in range(at, stop):
            symbols[n] = plain[data[k]]
            places[n] = k
            n += 1
        return n
    if mark == START_MARKED and at == i and (word_start >= 0 or unknown >= 0):
        symbols[0] = word_start if word_start >= 0 else unknown
        places[0] = at
        n = 1
    k = at
    while k < stop:
        point, length = code_point(data, k)
        symbol = np.int64(plain[point])
        if k + length == j and mark == END_MARKED:
            symbol = np.int64(marked[point])
        if symbol < 0:
            symbol = unknown
        if symbol >= 0:
            symbols[n] = symbol
            places[n] = k
            n += 1
        k += length
    return n


@njit(cache=True, nogil=True)
def merge_part(data, at, room, i, j, model, symbols, places):
    """Merge the symbols of the piece data[i:j] from byte `at` on, up to `room` bytes.

    Returns their number, and the end of the part.
    """
    stop = min(at + room, j)
    while stop < j and data[stop] & 0xC0 == 0x80:
        stop += 1
    n = first_symbols(data, at, stop, i, j, model, symbols, places)
    return merge(symbols, places, n, model[8]), stop


@njit(cache=True, nogil=True)
def merge_piece(data, i, j, model, ids):
    """Merge the symbols of a piece; returns `ids`, which starts with its ids, and their number.

    A long piece is merged in windows, with the same result. Ids are right if no two neighbors merge
    when they are encoded alone: the first merge across their border would happen there too, since
    no earlier merge touches both. So a window may begin at any token of the window before, if the
    first token of both is the same.
    """
    room = min(np.int64(WINDOW), j - i)
    symbols = np.empty(room + 8, np.int64)
    places = np.empty(room + 8, np.int64)
    n, stop = merge_part(data, i, room, i, j, model, symbols, places)
    n_ids = 0
    while stop < j:
        next_symbols = np.empty(room + 8, np.int64)
        next_places = np.empty(room + 8, np.int64)
        kept = n - n // 8
        n_next = next_stop = np.int64(0)
        while kept > 1:
            kept -= 1
            n_next, next_stop = merge_part(
                data, places[kept], room, i, j, model, next_symbols, next_places
            )
            if next_stop > stop and next_symbols[0] == symbols[kept]:
                break
        else:  # no such token: a larger window from the same start
            start = stop
            if n > 0:
                start = places[0]
                room *= 2
            symbols = np.empty(room + 8, np.int64)
            places = np.empty(room + 8, np.int64)
            n, stop = merge_part(data, start, room, i, j, model, symbols, places)
            continue
        ids = grow_ids(ids, n_ids + kept)
        for k in range(kept):
            ids[n_ids + k] = symbols[k]
        n_ids += kept
        symbols, places, n, stop = next_symbols, next_places, n_next, next_stop
    ids = grow_ids(ids, n_ids + n)
    for k in range(n):
        ids[n_ids + k] = symbols[k]
    return ids, n_ids + n


@njit(cache=True, nogil=True)
def grow_ids(ids, least):
    if least <= len(ids):
        return ids
    more = np.empty(2 * least, np.int32)
    more[: len(ids)] = ids
    return more


@njit(cache=True, nogil=True)
def longest_matches(data, i, j, whole, whole_pool, inner, inner_pool, longest, ids):
    """wordpiece.longest_match of data[i:j] into `ids`; returns their number, -1 for unknown."""
    characters = 0
    for k in range(i, j):
        characters += (data[k] & 0xC0) != 0x80
        if characters > LONGEST_WORD:
            return -1
    n = 0
    start = i
    while start < j:
        end = min(j, start + longest)
        while end > start:
            if end == j or (data[end] & 0xC0) != 0x80:
                low, high = string_key(data, start, end)
                if start == i:
                    row = find(whole, whole_pool, data, start, low, high)
                    token = whole[row + 3] if whole[row + 1] != 0 else -1
                else:
                    row = find(inner, inner_pool, data, start, low, high)
                    token = inner[row + 3] if inner[row + 1] != 0 else -1
                if token >= 0:
                    ids[n] = token
                    n += 1
                    break
            end -= 1
        if end == start:
            return -1
        start = end
    return n


@njit(cache=True, nogil=True)
def short_bytes(data, i, j, plain, whole, whole_pool, low, high, pairs, ids, symbols, ranks):
    """piece_ids of few bytes, the most frequent case; returns the number of ids."""
    row = find(whole, whole_pool, data, i, low, high)
    if whole[row + 1] != 0:
        ids[0] = whole[row + 3]
        return 1
    for k in range(j - i):
        symbols[k] = plain[data[i + k]]
    n = merge_short(symbols, j - i, pairs, ranks)
    for k in range(n):
        ids[k] = symbols[k]
    return n


@njit(cache=True, nogil=True)
def piece_ids(data, i, j, low, high, model, ids):
    """Encode the piece data[i:j]; returns `ids`, which starts with its ids, and their number."""
    kind, unknown = model[2:4]
    whole, whole_pool, inner, inner_pool, longest = model[9:14]
    if kind == LONGEST_MATCH:
        n = longest_matches(data, i, j, whole, whole_pool, inner, inner_pool, longest, ids)
    else:
        row = find(whole, whole_pool, data, i, low, high)
        if whole[row + 1] != 0:
            ids[0] = whole[row + 3]
            return ids, 1
        if kind != WHOLE:
            return merge_piece(data, i, j, model, ids)
        n = -1
    if n >= 0:
        return ids, n
    if unknown < 0:
        return ids, 0
    ids[0] = unknown
    return ids, 1


@njit(cache=True, nogil=True)
def append(out, n_out, ids, n, names, name_starts):
    """Append n ids to the output: their names, each followed by a space, or their numbers."""
    as_text = len(name_starts) > 0
    size = 4 * n
    if as_text:
        size = n
        for k in range(n):
            size += name_starts[ids[k] + 1] - name_starts[ids[k]]
    if n_out + size + 64 > len(out):
        out = grow_bytes(out, n_out + size + 64)
    for k in range(n):
        i = ids[k]
        if as_text:
            for at in range(name_starts[i], name_starts[i + 1]):
                out[n_out] = names[at]
                n_out += 1
            out[n_out] = 32
            n_out += 1
        else:
            for byte in range(4):
                out[n_out] = i >> 8 * byte & 0xFF
                n_out += 1
    return out, n_out


@njit(cache=True, nogil=True)
def append_known(data, table, pool, written, batch, k, n, as_text, out, n_out, out_ends, n_texts):
    """Append the outputs in the table for the batch's pieces from row k on, and ends of texts.

    Stops at a piece that is not in the table, or if `out` may be full; returns the positions in the
    batch, `out` and the texts. (A loop of its own: see count_known.)
    """
    room = len(out) - 32
    while k < n and n_out < room:
        high = batch[k, 3]
        if high == 0:
            if as_text:
                if n_out > (out_ends[n_texts - 1] if n_texts else 0):
                    n_out -= 1  # no space after the last
                out[n_out] = 10
                n_out += 1
            out_ends[n_texts] = n_out
            n_texts += 1
            k += 1
            continue
        row = find(table, pool, data, batch[k, 0], batch[k, 2], high)
        if item(table, row + 1) == 0:
            break
        value = item(table, row + 3)
        size = value & 0xFFFFFF
        if high > 0 and size <= 8:
            store8(out, n_out, item(table, row + 2))
        elif n_out + size > room:
            break
        else:
            # Both arrays have 16 more bytes.
            first = value >> 24
            step = 0
            while step < size:
                store8(out, n_out + step, load8(written, first + step))
                step += 8
        n_out += size
        k += 1
    return k, n_out, n_texts


@njit(cache=True, nogil=True)
def encode_texts(
    data, starts, ends, model, names, name_starts,
    table, pool, used, pool_used, written, written_used,
):  # fmt: skip
    """The ids of the texts data[starts[n] : ends[n]] as int32, and the end of each text in bytes.

    With names, the output is text instead, one line per text. The table's values are
    start << 24 | length of a piece's output in `written`; an output of at most eight bytes is also
    in the row itself, if its key needs no start in the pool. The arguments from `table` on are
    returned, grown.
    """
    kind_table, mode, kind, _, plain = model[:5]
    pairs, whole, whole_pool = model[8:11]
    symbols = np.empty(SHORT, np.int64)
    ranks = np.empty(SHORT, np.int64)
    as_text = len(name_starts) > 0
    out = np.empty(2 * len(data) + 64, np.uint8)
    out_ends = np.empty(len(starts), np.int64)
    n_out = 0
    n_texts = 0
    ids = np.empty(MAX_CACHED, np.int32)
    batch = np.empty((BATCH, 4), np.int64)
    text = 0
    at = starts[0] if len(starts) else 0
    while text < len(starts):
        n, text, at = split_batch(data, starts, ends, text, at, kind_table, mode, table, batch)
        k = 0
        while True:
            k, n_out, n_texts = append_known(
                data, table, pool, written, batch, k, n, as_text, out, n_out, out_ends, n_texts
            )
            if k == n:
                break
            i, j, low, high = batch[k, 0], batch[k, 1], batch[k, 2], batch[k, 3]
            row = find(table, pool, data, i, low, high) if high != 0 else np.int64(0)
            if high == 0 or table[row + 1] != 0:
                out = grow_bytes(out, n_out + (table[row + 3] & 0xFFFFFF) + 64)
                continue
            if kind == BYTES and j - i <= SHORT:
                n_ids = short_bytes(
                    data, i, j, plain, whole, whole_pool, low, high, pairs, ids, symbols, ranks
                )
            else:
                ids, n_ids = piece_ids(data, i, j, low, high, model, ids)
            if j - i >= MAX_CACHED or used >= MAX_PIECES or pool_used >= MAX_BYTES:
                out, n_out = append(out, n_out, ids, n_ids, names, name_starts)
                k += 1
                continue
            first = written_used
            written, written_used = append(written, written_used, ids, n_ids, names, name_starts)
            size = written_used - first
            table, pool, used, pool_used = insert(
                table, pool, used, pool_used, row, low, high, data, i, j, first << 24 | size
            )
            if high > 0 and size <= 8:
                table[find(table, pool, data, i, low, high) + 2] = load8(written, first)
    return out[:n_out], out_ends, table, pool, used, pool_used, written, written_used


@dataclass(frozen=True, kw_only=True)
class PieceRules:
    """The rules by which a tokenizer encodes a pre-token, as plain data.

    `symbols` are the ids of bytes or code points, `last_symbols` those of the last code point of a
    word if `mark` is END_MARKED, and `word_start` is the id before the first if it is START_MARKED.
    `whole` are the ids of whole pre-tokens (of the first part with LONGEST_MATCH, then `inner`).
    """

    method: int = field(kw_only=False)  # BYTES, CHARS, LONGEST_MATCH or WHOLE
    unknown: int | None = None
    mark: int = PLAIN
    symbols: Mapping[int, int] = field(default_factory=dict)
    last_symbols: Mapping[int, int] = field(default_factory=dict)
    word_start: int | None = None
    ranks: Ranks = field(default_factory=dict)
    whole: Mapping[bytes, int] = field(default_factory=dict)
    inner: Mapping[bytes, int] = field(default_factory=dict)


Array = npt.NDArray[Any]
Cache = list[Any]  # a table of pieces, and the output for each; see encode_texts


def concatenate(items: Sequence[bytes]) -> tuple[Array, Array]:
    """The bytes of the items one after the other, and the start of each."""
    starts = np.cumsum([0, *map(len, items)]).astype(np.int64)
    return np.frombuffer(b"".join(items), np.uint8), starts


def string_table(ids: Mapping[bytes, int]) -> tuple[Array, Array]:
    """A table from byte strings to ids, and its pool."""
    values = np.array(list(ids.values()), np.int64)
    table, pool, *_ = compiled_table.fill(*compiled_table.empty(), *concatenate(list(ids)), values)
    return table, pool


def symbol_table(ids: Mapping[int, int], size: int) -> Array:
    """The id of each byte or code point; -1 for the others."""
    table = np.full(size, -1, np.int32)
    if size:
        table[list(ids)] = list(ids.values())
    return table


NO_NAMES = concatenate([])[0], np.zeros(0, np.int64)


class Encoder:
    """A tokenizer's tables for the compiled functions, and a cache of pieces for each thread.

    `mode` is the split, a value of MODES; with NONE each text is one piece.
    """

    def __init__(
        self, rules: PieceRules, mode: int, names: Mapping[int, str], normalization: Sequence[str]
    ) -> None:
        self.names = names
        self.normalization = normalization
        size = {BYTES: 256, CHARS: CODE_POINTS}.get(rules.method, 1)
        pairs = [(*pair, *rules.ranks[pair]) for pair in rules.ranks]
        self.caches: queue.SimpleQueue[Cache] = queue.SimpleQueue()
        with compile_notice("the loops for large inputs", 20):
            self.model = (
                character_kinds(mode),
                mode,
                rules.method,
                -1 if rules.unknown is None else rules.unknown,
                symbol_table(rules.symbols, size),
                symbol_table(rules.last_symbols, size if rules.mark == END_MARKED else 0),
                rules.mark,
                -1 if rules.word_start is None else rules.word_start,
                pair_table(np.array(pairs, np.int64).reshape(-1, 4)),
                *string_table(rules.whole),
                *string_table(rules.inner),
                max(map(len, rules.whole), default=1),
            )
            # Load the code now, not in several threads at once.
            self.encode(np.frombuffer(b"", np.uint8), *np.zeros((2, 0), np.int64))

    def encode(
        self,
        text: Array,
        starts: Array,
        ends: Array,
        names: tuple[Array, Array] = NO_NAMES,
        caches: "queue.SimpleQueue[Cache] | None" = None,
    ) -> tuple[Array, Array]:
        """See encode_texts. Output with other names needs other caches."""
        caches = self.caches if caches is None else caches
        try:
            cache = caches.get_nowait()
        except queue.Empty:
            cache = empty_cache()
        out, out_ends, *cache = encode_texts(text, starts, ends, self.model, *names, *cache)
        full = cache[2] >= MAX_PIECES or cache[3] >= MAX_BYTES
        caches.put(empty_cache() if full else cache)
        return out, out_ends

    def text_encoder(
        self, name: Callable[[int], str], whole: bool = False
    ) -> Callable[[bytes], memoryview]:
        """A function from a block of lines to lines of the names of their ids, as printed.

        With `whole` a block is one text.
        """
        every = range(max(self.names) + 1)
        names = concatenate([(name(i) if i in self.names else "").encode() for i in every])
        caches: queue.SimpleQueue[Cache] = queue.SimpleQueue()

        return lambda block: self.encode(*self.texts(block, whole), names, caches)[0].data

    def id_encoder(self, whole: bool = False) -> Callable[[bytes], tuple[Array, Array]]:
        """A function from a block of lines to their ids, int32, and the end of each line's."""

        def encode_block(block: bytes) -> tuple[Array, Array]:
            ids, ends = self.encode(*self.texts(block, whole))
            return ids.view(np.int32), ends // 4

        return encode_block

    def texts(self, block: bytes, whole: bool) -> tuple[Array, Array, Array]:
        """The normalized bytes of a block, and start and end of each line, or of all of it."""
        if self.normalization:
            prepare = normalize if whole else normalize_lines
            block = prepare(block.decode(), self.normalization).encode()
        text = np.frombuffer(block, np.uint8)
        if whole:
            return text, np.zeros(1, np.int64), np.array([len(block)], np.int64)
        return text, *line_bounds(text)

    def encode_texts(self, texts: Sequence[str], workers: int) -> list[list[int]]:
        """The ids of each text; threads take chunks of texts."""
        chunks: list[list[str]] = [[]]
        size = 0
        for text in texts:
            if size > CHUNK:
                chunks.append([])
                size = 0
            chunks[-1].append(text)
            size += len(text)

        def encode_chunk(chunk: list[str]) -> list[list[int]]:
            encoded = [normalize(text, self.normalization).encode() for text in chunk]
            # Line ends between the texts, so that a pattern never looks far ahead.
            ends = np.cumsum([len(text) + 1 for text in encoded]).astype(np.int64) - 1
            starts = np.append(0, ends[:-1] + 1)
            data = np.frombuffer(b"\n".join(encoded), np.uint8)
            ids, id_ends = self.encode(data, starts, ends)
            flat, cuts = ids.view(np.int32).tolist(), (id_ends // 4).tolist()
            return [flat[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]

        with ThreadPoolExecutor(workers) as pool:
            return [ids for part in pool.map(encode_chunk, chunks) for ids in part]


def empty_cache() -> Cache:
    return [*compiled_table.empty(), np.empty(1 << 16, np.uint8), 0]
