"""Compiled: hash the n-grams of a whole vocabulary into buckets (see subwords.py), sum vectors.

Shapes: N words, G n-grams of all words, R kept buckets, D dimensions.
"""

import numpy as np

from dlkit.core.numba_tools import njit
from dlkit.embed.model import Subwords, WordList

END_OF_SENTENCE = np.frombuffer(b"</s>", np.uint8)


def hash_ngrams(
    words: WordList, minn: int, maxn: int, bucket: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the buckets (G) of all words' n-grams, and the start of each word's (N + 1), int64."""
    blob, offsets = np.asarray(words.blob), np.asarray(words.offsets)
    starts = np.zeros(len(words) + 1, np.int64)
    _hash_words(blob, offsets, minn, maxn, bucket, starts, np.empty(0, np.int64))
    buckets = np.empty(starts[-1], np.int64)
    _hash_words(blob, offsets, minn, maxn, bucket, starts, buckets)
    return buckets, starts


def sum_ngram_vectors(words: WordList, subwords: Subwords) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum (N, D) of each word's n-gram vectors, and its number of n-grams (N)."""
    buckets, starts = hash_ngrams(words, subwords.minn, subwords.maxn, subwords.bucket)
    places = np.searchsorted(subwords.buckets, buckets)
    places[places == len(subwords.buckets)] = 0
    if len(subwords.buckets):
        places[np.asarray(subwords.buckets)[places] != buckets] = -1
    else:
        places[:] = -1
    sums = np.zeros((len(words), subwords.vectors.shape[1]), np.float32)
    vectors = np.asarray(subwords.vectors)
    if vectors.dtype == np.float16 or not vectors.flags.aligned:
        vectors = vectors.astype(np.float32)
    _add_rows(vectors, places, starts, sums)
    return sums, np.diff(starts)


@njit(cache=True, nogil=True)
def _hash_words(blob, offsets, minn, maxn, bucket, starts, buckets):
    """Count the n-grams of each word into `starts` if `buckets` is empty; otherwise fill it."""
    counting = len(buckets) == 0
    longest = 0
    for word in range(len(offsets) - 1):
        longest = max(longest, offsets[word + 1] - offsets[word])
    marked = np.empty(longest + 2, np.uint8)
    total = 0
    for word in range(len(offsets) - 1):
        begin, end = offsets[word], offsets[word + 1] - 1
        length = end - begin + 2
        marked[0], marked[length - 1] = ord("<"), ord(">")
        marked[1 : length - 1] = blob[begin:end]
        special = length == 6 and np.all(blob[begin:end] == END_OF_SENTENCE)
        for first in range(length if special else 0, length):
            if marked[first] & 0xC0 == 0x80:
                continue
            value = np.uint32(2166136261)
            last = first
            n = 0
            while last < length and n < maxn:
                while True:
                    signed = np.int8(marked[last])
                    value = np.uint32((value ^ np.uint32(signed)) * np.uint32(16777619))
                    last += 1
                    if last >= length or marked[last] & 0xC0 != 0x80:
                        break
                n += 1
                if n >= minn and not (n == 1 and (first == 0 or last == length)):
                    if not counting:
                        buckets[total] = np.int64(value) % bucket
                    total += 1
        if counting:
            starts[word + 1] = total


@njit(cache=True, nogil=True)
def _add_rows(vectors, places, starts, sums):
    for word in range(len(starts) - 1):
        for gram in range(starts[word], starts[word + 1]):
            if places[gram] >= 0:
                sums[word] += vectors[places[gram]]
