"""fastText's subwords (Bojanowski et al. 2017): character n-grams of <word>, hashed into buckets.

The n-grams and the hash match fastText's Dictionary::computeSubwords and Dictionary::hash. This is
plain Python for single words; compiled_subwords.py hashes whole vocabularies.
"""

import re

import numpy as np

from dlkit.embed.model import Subwords

CHARACTER = re.compile(rb"[^\x80-\xbf][\x80-\xbf]*")  # as in fastText, also in invalid UTF-8
END_OF_SENTENCE = "</s>"  # the one word without n-grams


def ngrams(word: str, minn: int, maxn: int) -> list[str]:
    """Return the n-grams of minn to maxn characters of <word>, except < and > alone."""
    if word == END_OF_SENTENCE:
        return []
    marked = CHARACTER.findall(f"<{word}>".encode("utf-8", "surrogateescape"))
    return [
        b"".join(marked[start : start + n]).decode("utf-8", "surrogateescape")
        for start in range(len(marked))
        for n in range(max(minn, 1), min(maxn, len(marked) - start) + 1)
        if not (n == 1 and start in (0, len(marked) - 1))
    ]


def fnv1a(text: str) -> int:
    """32-bit FNV-1a hash with each byte sign-extended first, as in fastText."""
    value = 2166136261
    for byte in text.encode("utf-8", "surrogateescape"):
        value ^= byte if byte < 128 else byte | 0xFFFFFF00
        value = value * 16777619 & 0xFFFFFFFF
    return value


def ngram_vectors(word: str, subwords: Subwords) -> np.ndarray:
    """Return the vectors (n-grams, D) of a word's n-grams, float32; zeros for an empty bucket."""
    buckets = [fnv1a(n) % subwords.bucket for n in ngrams(word, subwords.minn, subwords.maxn)]
    vectors = np.zeros((len(buckets), subwords.vectors.shape[1]), np.float32)
    places = np.searchsorted(subwords.buckets, buckets)
    for row, (place, bucket) in enumerate(zip(places, buckets, strict=True)):
        if place < len(subwords.buckets) and subwords.buckets[place] == bucket:
            vectors[row] = subwords.vectors[place]
    return vectors


def vector_of_unknown(word: str, subwords: Subwords) -> np.ndarray | None:
    """Return the mean (D) of a word's n-gram vectors; None if it has no n-grams."""
    vectors = ngram_vectors(word, subwords)
    return vectors.mean(axis=0) if len(vectors) else None
