"""Files of n-gram models: safetensors that are mapped into memory, and ARPA. Loads no torch.

Shapes: M n-grams of a level.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.store.mapped import damaged, map_arrays, write_arrays
from dlkit.lm_generate.arpa import read_arpa
from dlkit.lm_generate.ngram import NGram, NGramSettings, Trie, Values, stored_settings

CODES = 256  # values of a byte
EXACT = (0.0, -np.inf)
GRID = 1 << 14  # bins of the histogram that estimates the density of numbers


def save(path: Path, model: NGram, compress: bool = False) -> None:
    """Write the model, whole or not at all; `compress` stores each number in a byte.

    A compressed file has no back-off weight for an n-gram without children, and stores where
    children begin as two bits for each n-gram: a 0 for each child and a 1 after them.
    """
    trie = model.trie
    dtype = np.uint16 if len(trie.words[0]) <= 1 << 16 else np.uint32
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, numbers: np.ndarray) -> None:
        if not compress:
            arrays[name] = numbers
            return
        arrays[name], arrays[f"{name}.table"] = quantize(numbers)

    for level, words in enumerate(trie.words):
        number = level + 1
        if level:
            arrays[f"words.{number}"] = np.asarray(words, dtype)
        add(f"logprobs.{number}", model.logprobs[level][:])
        if number == trie.order:
            continue
        first, weights = trie.first[level], model.backoffs[level][:]
        if compress:
            arrays[f"children.{number}"] = pack_children(first)
            weights = weights[has_children(first)]
        else:
            arrays[f"first.{number}"] = np.asarray(first, np.uint32)
        add(f"backoffs.{number}", weights)
    settings: NGramSettings = {
        **stored_settings(model.header),
        "order": trie.order,
        "line_end": trie.line_end,
        "floors": model.floors,
        "ngrams": [len(words) for words in trie.words],
    }
    write_arrays(path, arrays, replace(model.header, settings=settings))


def has_children(first: np.ndarray) -> np.ndarray:
    """Mask (M) of the n-grams that others begin with."""
    found: np.ndarray = first[1:] > first[:-1]
    return found


def quantize(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize numbers (M) to codes (uint8) and a table of their values (256, float32).

    The value of a code is the mean of numbers of neighboring size. The squared error is least when
    the density of codes is that of the cube root of the numbers (Panter & Dite 1951). The numbers
    that must stay exact, a back-off weight of 1 and -inf, have codes of their own.
    """
    if not len(numbers):
        return np.empty(0, np.uint8), np.zeros(CODES, np.float32)
    different = np.unique(numbers)
    if len(different) > CODES:
        exact = np.isin(different, EXACT)
        counts, edges = np.histogram(numbers[~np.isin(numbers, EXACT)], GRID)
        density = np.cumsum(np.cbrt(counts))
        bins = CODES - 2 * int(exact.sum())  # the exact ones may cut a bin in two
        places = np.searchsorted(density, np.arange(bins) / bins * density[-1], side="right")
        starts = np.unique(edges[places].astype(numbers.dtype))
        following = np.searchsorted(different, different[exact], side="right")
        after = different[following[following < len(different)]]
        starts = np.unique(np.concatenate([starts, different[exact], after]))
    else:
        starts = different
    codes = np.searchsorted(starts, numbers, side="right") - 1
    finite = np.where(np.isfinite(numbers), numbers, 0)
    counts = np.bincount(codes, minlength=CODES)
    table = np.bincount(codes, finite, minlength=CODES) / np.maximum(counts, 1)
    table[: len(starts)][np.isneginf(starts)] = -np.inf
    return codes.astype(np.uint8), table.astype(np.float32)


def pack_children(first: np.ndarray) -> np.ndarray:
    """Pack `Trie.first` into bits (uint8)."""
    ends = np.asarray(first[1:], np.int64) + np.arange(len(first) - 1)
    bits = np.zeros(int(first[-1]) + len(first) - 1, np.uint8)
    bits[ends] = 1
    return np.packbits(bits)


def unpack_children(bits: np.ndarray, nodes: int) -> np.ndarray:
    """Unpack the bits of `pack_children`, for a level of `nodes` n-grams."""
    ends = np.flatnonzero(np.unpackbits(bits))[:nodes]
    return np.append(0, ends - np.arange(nodes)).astype(np.uint32)


def load(path: Path) -> NGram:
    """Load a model from a safetensors file, which is mapped into memory, or an ARPA file."""
    if path.suffix != ".safetensors":
        return read_arpa(path)
    header, arrays = map_arrays(path, "lm-generate")
    if header.arch != "ngram":
        raise DlkitError(f"a model of --arch {header.arch}; give one of n-grams", path)
    try:
        settings = stored_settings(header)
        numbers = range(1, settings["order"] + 1)
        if not 1 <= settings["order"] <= len(arrays):
            raise DlkitError(f"its header has the order {settings['order']}")
        sizes = settings["ngrams"]

        def values(name: str) -> Values:
            return Values(arrays[name], arrays.get(f"{name}.table"))

        def weights(number: int) -> Values:
            found = values(f"backoffs.{number}")
            if found.table is None:
                return found
            dense = np.zeros(sizes[number - 1], np.float32)
            dense[has_children(first[number - 1])] = found[:]
            return Values(dense)

        words = [np.arange(sizes[0]), *(arrays[f"words.{number}"] for number in numbers[1:])]
        first = [
            unpack_children(arrays[f"children.{number}"], sizes[number - 1])
            if f"children.{number}" in arrays
            else arrays[f"first.{number}"]
            for number in numbers[:-1]
        ]
        check_trie(words, first, sizes)
        model = NGram(
            header,
            Trie(words, first, settings["line_end"]),
            [values(f"logprobs.{number}") for number in numbers],
            [weights(number) for number in numbers[:-1]],
            settings["floors"],
        )
        check_values(model)
    except DlkitError as error:
        raise damaged(path, str(error)) from error
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(path, "its arrays do not fit each other") from error
    return model


def check_trie(words: list[np.ndarray], first: list[np.ndarray], sizes: list[int]) -> None:
    """Raise DlkitError unless the levels of a trie fit the sizes and each other."""
    if [len(level) for level in words] != sizes or any(level.ndim != 1 for level in words):
        raise DlkitError("the sizes in its header are not those of its arrays")
    for level, starts in enumerate(first):
        below = words[level + 1]
        in_order = starts.ndim == 1 and len(starts) == sizes[level] + 1 and not starts[0]
        in_order = in_order and bool((starts[1:] >= starts[:-1]).all())
        if not in_order or starts[-1] != len(below):
            raise DlkitError(f"its n-grams of {level + 1} tokens do not fit the longer ones")
        if len(below) and not 0 <= below.min() <= below.max() < sizes[0]:
            raise DlkitError(f"its n-grams of {level + 2} tokens have unknown tokens")


def check_values(model: NGram) -> None:
    """Raise DlkitError unless there is a number for each n-gram, and an n-gram for each token."""
    sizes = [len(level) for level in model.trie.words]
    for kind in (model.logprobs, model.backoffs):
        for size, values in zip(sizes, kind, strict=False):
            if values.stored.shape != (size,) or (
                values.table is not None and values.table.shape != (CODES,)
            ):
                raise DlkitError("its probabilities are not one for each n-gram")
    line_end = model.trie.line_end
    if model.codec.size > sizes[0] or (line_end is not None and line_end >= sizes[0]):
        raise DlkitError("its tokenizer has more tokens than its n-grams")
