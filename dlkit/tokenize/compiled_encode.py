"""Encoding large inputs: compiled cutting, and a table from each pre-token seen to its ids.

The ids are those of Tokenizer.encode (tested); only patterns of compiled_split.py are known here.
"""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from dlkit.tokenize.compiled_learn import find_pair
from dlkit.tokenize.compiled_split import (
    MODES,
    code_point,
    find,
    is_dropped,
    key_of,
    kinds,
    larger,
    larger_pool,
    piece_end,
)
from dlkit.tokenize.normalize import normalize

if TYPE_CHECKING:
    from dlkit.tokenize.model import Tokenizer

BYTES, CHARS, LONGEST_MATCH, WHOLE = range(4)  # what becomes of a pre-token
PLAIN, END_MARKED, START_MARKED = range(3)
LONGEST_WORD = 100  # characters, for wordpiece
MOST_PIECES = 1 << 19  # in the table of pre-tokens; then it starts anew
MOST_BYTES = 1 << 25
CHUNK = 1 << 20  # characters of texts that a thread takes at once


@njit(cache=True, nogil=True)
def with_row(table, pool, used, pool_used, data, i, j, key, value):
    """The table and its pool with data[i:j] added."""
    row = find(table, pool, data, i, j, key)
    if table[row, 0] == 0:
        used += 1
    if pool_used + j - i > len(pool):
        pool = larger_pool(pool, pool_used + j - i)
    pool[pool_used : pool_used + j - i] = data[i:j]
    table[row, 0] = key
    table[row, 1] = pool_used
    table[row, 2] = j - i
    table[row, 3] = value
    pool_used += j - i
    if 2 * used > len(table):
        table = larger(table)
    return table, pool, used, pool_used


@njit(cache=True, nogil=True)
def table_of(data, starts, values):
    """A table from strings, data[starts[n] : starts[n + 1]], to values."""
    table = np.zeros((1 << 12, 4), np.int64)
    pool = np.empty(max(1, len(data)), np.uint8)
    used = 0
    pool_used = 0
    for n in range(len(values)):
        i = starts[n]
        j = starts[n + 1]
        if j > i:
            table, pool, used, pool_used = with_row(
                table, pool, used, pool_used, data, i, j, key_of(data, i, j), values[n]
            )
    return table, pool, used, pool_used


@njit(cache=True, nogil=True)
def pair_table(lefts, rights, ranks, news):
    """An open table from left << 32 | right to rank << 32 | result."""
    size = 1 << 4
    while size < 3 * len(lefts):
        size *= 2
    keys = np.full(size, -1, np.int64)
    values = np.zeros(size, np.int64)
    for n in range(len(lefts)):
        key = np.int64(lefts[n]) << 32 | np.int64(rights[n])
        slot = find_pair(keys, key)
        keys[slot] = key
        values[slot] = np.int64(ranks[n]) << 32 | np.int64(news[n])
    return keys, values


@njit(cache=True, nogil=True)
def push(heap, size, item):
    at = size
    while at > 0 and item < heap[(at - 1) >> 1]:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = item


@njit(cache=True, nogil=True)
def pop(heap, size):
    """The smallest item; the heap has one less."""
    top = heap[0]
    size -= 1
    item = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = item
    return top


@njit(cache=True, nogil=True)
def merged(symbols, n, pair_keys, pair_values):
    """bpe.apply_merges on the first n symbols, in place; returns how many are left."""
    following = np.arange(1, n + 1)
    preceding = np.arange(-1, n - 1)
    heap = np.empty(3 * n, np.int64)  # rank << 32 | position
    size = 0
    for i in range(n - 1):
        slot = find_pair(pair_keys, np.int64(symbols[i]) << 32 | np.int64(symbols[i + 1]))
        if pair_keys[slot] >= 0:
            push(heap, size, pair_values[slot] >> 32 << 32 | i)
            size += 1
    while size > 0:
        top = pop(heap, size)
        size -= 1
        i = top & 0xFFFFFFFF
        if symbols[i] < 0 or following[i] >= n:
            continue
        j = following[i]
        slot = find_pair(pair_keys, np.int64(symbols[i]) << 32 | np.int64(symbols[j]))
        if pair_keys[slot] < 0 or pair_values[slot] >> 32 != top >> 32:
            continue  # one of the two was merged in the meantime
        symbols[i] = pair_values[slot] & 0xFFFFFFFF
        symbols[j] = -1
        following[i] = following[j]
        if following[i] < n:
            preceding[following[i]] = i
        for side in range(2):
            a = i if side == 0 else preceding[i]
            if a < 0 or following[a] >= n:
                continue
            b = following[a]
            slot = find_pair(pair_keys, np.int64(symbols[a]) << 32 | np.int64(symbols[b]))
            if pair_keys[slot] >= 0:
                push(heap, size, pair_values[slot] >> 32 << 32 | a)
                size += 1
    left = 0
    for i in range(n):
        if symbols[i] >= 0:
            symbols[left] = symbols[i]
            left += 1
    return left


@njit(cache=True, nogil=True)
def longest_matches(data, i, j, initial, initial_pool, inner, inner_pool, longest, symbols):
    """wordpiece.longest_match of data[i:j] into `symbols`; returns how many, -1 for unknown."""
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
                key = key_of(data, start, end)
                if start == i:
                    row = find(initial, initial_pool, data, start, end, key)
                    token = initial[row, 3] if initial[row, 0] != 0 else -1
                else:
                    row = find(inner, inner_pool, data, start, end, key)
                    token = inner[row, 3] if inner[row, 0] != 0 else -1
                if token >= 0:
                    symbols[n] = token
                    n += 1
                    break
            end -= 1
        if end == start:
            return -1
        start = end
    return n


@njit(cache=True, nogil=True)
def encode_texts(
    data, starts, ends, kind_table, mode, kind, unknown, plain, marked, mark, word_start,
    pair_keys, pair_values, initial, initial_pool, inner, inner_pool, longest,
    table, pool, used, pool_used, ids, ids_used,
):  # fmt: skip
    """The ids of data[starts[n] : ends[n]] for all n, and where each text's ids end.

    The table's values are start << 24 | count in `ids`, or -1 - id for a single one.
    """
    out = np.empty(2 * len(data) + 16, np.int32)
    out_ends = np.empty(len(starts), np.int64)
    n_out = 0
    symbols = np.empty(256, np.int64)
    for text in range(len(starts)):
        i = starts[text]
        end = ends[text]
        while i < end:
            j = piece_end(data, i, end, kind_table, mode)
            if is_dropped(data, i, kind_table, mode):
                i = j
                continue
            key = key_of(data, i, j)
            row = find(table, pool, data, i, j, key)
            if table[row, 0] != 0:
                value = table[row, 3]
                if value < 0:
                    out[n_out] = -1 - value
                    n_out += 1
                else:
                    at = value >> 24
                    for k in range(value & 0xFFFFFF):
                        out[n_out] = ids[at + k]
                        n_out += 1
                i = j
                continue
            if j - i + 1 > len(symbols):
                symbols = np.empty(2 * (j - i + 1), np.int64)
            n = 0
            if kind == BYTES:
                for k in range(i, j):
                    symbols[n] = plain[data[k]]
                    n += 1
                n = merged(symbols, n, pair_keys, pair_values)
            elif kind == CHARS:
                if mark == START_MARKED:
                    symbols[0] = word_start if word_start >= 0 else unknown
                    n = 1 if symbols[0] >= 0 else 0
                k = i
                while k < j:
                    point, length = code_point(data, k)
                    k += length
                    symbol = np.int64(plain[point])
                    if k == j and mark == END_MARKED:
                        symbol = np.int64(marked[point])
                    if symbol < 0:
                        symbol = unknown
                    if symbol >= 0:
                        symbols[n] = symbol
                        n += 1
                n = merged(symbols, n, pair_keys, pair_values)
            else:
                n = -1
                if kind == LONGEST_MATCH:
                    n = longest_matches(
                        data, i, j, initial, initial_pool, inner, inner_pool, longest, symbols
                    )
                if n < 0:
                    n = 0
                    if unknown >= 0:
                        symbols[0] = unknown
                        n = 1
            for k in range(n):
                out[n_out] = symbols[k]
                n_out += 1
            if j - i < 256 and used < MOST_PIECES and pool_used < MOST_BYTES:
                if n == 1:
                    value = -1 - symbols[0]
                else:
                    value = np.int64(ids_used) << 24 | n
                    if ids_used + n > len(ids):
                        more = np.empty(2 * len(ids) + n, np.int32)
                        more[: len(ids)] = ids
                        ids = more
                    for k in range(n):
                        ids[ids_used + k] = symbols[k]
                    ids_used += n
                table, pool, used, pool_used = with_row(
                    table, pool, used, pool_used, data, i, j, key, value
                )
            i = j
        out_ends[text] = n_out
    return out[:n_out], out_ends, table, pool, used, pool_used, ids, ids_used


@njit(cache=True, nogil=True)
def line_bounds(data):
    """Starts and ends of the lines, without their ends."""
    n = 0
    for byte in data:
        n += byte == 10
    if len(data) > 0 and data[-1] != 10:
        n += 1
    starts = np.empty(n, np.int64)
    ends = np.empty(n, np.int64)
    start = 0
    n = 0
    for i in range(len(data)):
        if data[i] == 10:
            starts[n] = start
            ends[n] = i
            start = i + 1
            n += 1
    if start < len(data):
        starts[n] = start
        ends[n] = len(data)
    return starts, ends


@njit(cache=True, nogil=True)
def written(ids, ends, names, name_starts):
    """The names of the ids, separated by spaces, a line a text."""
    size = 0
    for i in ids:
        size += name_starts[i + 1] - name_starts[i] + 1
    out = np.empty(size + len(ends), np.uint8)
    at = 0
    start = 0
    for end in ends:
        for n in range(start, end):
            i = ids[n]
            for k in range(name_starts[i], name_starts[i + 1]):
                out[at] = names[k]
                at += 1
            out[at] = 32
            at += 1
        if end > start:
            at -= 1  # no space after the last
        out[at] = 10
        at += 1
        start = end
    return out[:at]


def strings(items: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of the items one after the other, and where each starts."""
    encoded = [item.encode() for item in items]
    starts = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), starts


def char_table(vocab: dict[str, int], suffix: str = "") -> np.ndarray:
    """The id of each character with this suffix; -1 where there is none."""
    table = np.full(0x110000, -1, np.int32)
    for token, i in vocab.items():
        if len(token) == 1 + len(suffix) and token.endswith(suffix):
            table[ord(token[0])] = i
    return table


class Encoder:
    """A tokenizer's tables for the compiled functions, and a cache of pieces for each thread."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        from dlkit.tokenize.model import (
            BYTE_TO_CHAR,
            INSIDE,
            WORD_END,
            WORD_START,
            as_bytes,
        )

        self.steps = tokenizer.normalization
        self.names = tokenizer.names
        mode = MODES[tokenizer.split]
        vocab = tokenizer.vocab
        settings = tokenizer.header.settings
        unknown = -1 if tokenizer.unknown_id is None else tokenizer.unknown_id
        none = np.full(1, -1, np.int32)
        plain = marked = none
        mark, word_start, longest = PLAIN, -1, 1
        ranks: Any = {}
        empty = table_of(*strings([]), np.zeros(0, np.int64))
        initial, inner, seed = empty, empty, empty
        if tokenizer.algorithm in {"byte-bpe", "byte"}:
            kind = BYTES
            plain = np.array([vocab[BYTE_TO_CHAR[byte]] for byte in range(256)], np.int32)
            ranks = tokenizer.ranks  # type: ignore[attr-defined]
            if settings.get("by_rank"):
                whole = {t: i for t, i in vocab.items() if len(t) > 1}
                encoded = [as_bytes(token) for token in whole]
                seed = table_of(
                    np.frombuffer(b"".join(encoded), np.uint8),
                    np.cumsum([0, *map(len, encoded)]).astype(np.int64),
                    -1 - np.array(list(whole.values()), np.int64),
                )
        elif tokenizer.algorithm == "bpe":
            kind = CHARS
            plain = char_table(vocab)
            ranks = tokenizer.ranks  # type: ignore[attr-defined]
            if settings["mark"] == "end-of-word":
                mark, marked = END_MARKED, char_table(vocab, WORD_END)
            elif settings["mark"] == "word-start":
                mark, word_start = START_MARKED, vocab.get(WORD_START, -1)
        elif tokenizer.algorithm == "wordpiece":
            kind = LONGEST_MATCH
            longest = max(len(token.encode()) for token in vocab)
            first = vocab
            rest = {t.removeprefix(INSIDE): i for t, i in vocab.items() if t.startswith(INSIDE)}
            initial = table_of(*strings(list(first)), np.array(list(first.values()), np.int64))
            inner = table_of(*strings(list(rest)), np.array(list(rest.values()), np.int64))
        else:
            kind = WHOLE
            values = -1 - np.array(list(vocab.values()), np.int64)
            seed = table_of(*strings(list(vocab)), values)
        rows = np.array([(*pair, *ranks[pair]) for pair in ranks], np.int64).reshape(-1, 4)
        pairs = pair_table(*(np.ascontiguousarray(column) for column in rows.T))
        self.model = (
            kinds(mode), mode, kind, unknown, plain, marked, mark, word_start,
            *pairs, *initial[:2], *inner[:2], longest,
        )  # fmt: skip
        self.seed = seed
        self.caches: queue.SimpleQueue = queue.SimpleQueue()
        # The compiled code is loaded now, not by several threads at once.
        self.encode(np.frombuffer(b"", np.uint8), *np.zeros((2, 0), np.int64))

    def encode(
        self, text: np.ndarray, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the texts, and where each text's ids end."""
        try:
            cache = self.caches.get_nowait()
        except queue.Empty:
            cache = self.fresh()
        ids, id_ends, *cache = encode_texts(text, starts, ends, *self.model, *cache)
        if cache[2] >= MOST_PIECES or cache[3] >= MOST_BYTES:
            cache = self.fresh()
        self.caches.put(cache)
        return ids, id_ends

    def fresh(self) -> tuple:
        table, pool, used, pool_used = self.seed
        return table.copy(), pool.copy(), used, pool_used, np.empty(1 << 12, np.int32), 0

    def normalized(self, block: bytes) -> np.ndarray:
        if self.steps:
            block = normalize(block.decode(), self.steps).encode()
        return np.frombuffer(block, np.uint8)

    def writer(self, name: Callable[[int], str]) -> Callable[[bytes], bytes]:
        """A function from a block of lines to lines of names, as they are printed."""
        last = max(self.names)
        names, starts = strings([name(i) if i in self.names else "" for i in range(last + 1)])

        def write(block: bytes) -> bytes:
            text = self.normalized(block)
            return written(*self.encode(text, *line_bounds(text)), names, starts).tobytes()

        return write

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

        def work(chunk: list[str]) -> list[list[int]]:
            encoded = [normalize(text, self.steps).encode() for text in chunk]
            ends = np.cumsum([len(text) for text in encoded]).astype(np.int64)
            starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
            ids, id_ends = self.encode(np.frombuffer(b"".join(encoded), np.uint8), starts, ends)
            flat, cuts = ids.tolist(), id_ends.tolist()
            return [flat[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]

        with ThreadPoolExecutor(workers) as pool:
            return [ids for part in pool.map(work, chunks) for ids in part]


def encoder(tokenizer: "Tokenizer") -> Encoder | None:
    """The tokenizer's encoder, made once; None where its pattern is not compiled."""
    if tokenizer.split not in MODES:
        return None
    if tokenizer.algorithm in {"byte-bpe", "byte"} and len(tokenizer.vocab) < 256:
        return None
    made = tokenizer.__dict__.get("_compiled")
    if made is None:
        made = tokenizer.__dict__["_compiled"] = Encoder(tokenizer)
    return made
