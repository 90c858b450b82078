"""fastText's subwords (Bojanowski et al. 2017): character n-grams of <word>, hashed into buckets.

The n-grams and the hash match fastText's Dictionary::computeSubwords and Dictionary::hash. This is
plain Python for single words; compiled_subwords.py hashes whole vocabularies.
"""

import re

import numpy as np

from dlkit.embed.model import Embedding, Subwords, embedding_settings

CHARACTER = re.compile(rb"[^\x80-\xbf][\x80-\xbf]*")  # as in fastText, also in invalid UTF-8
END_OF_SENTENCE = "</s>"  # the one word without n-grams
SPACE = re.compile("[ \\t\\v\\f\\r\\n\\0]+")
LABEL = "__label__"


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
    hashes = [fnv1a(ngram) for ngram in ngrams(word, subwords.minn, subwords.maxn)]
    return bucket_vectors([value % subwords.bucket for value in hashes], subwords)


def bucket_vectors(buckets: list[int], subwords: Subwords) -> np.ndarray:
    """Return the vectors (buckets, D) of the buckets, float32; zeros for an empty one."""
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


def mean_of_features(text: str, embedding: Embedding) -> np.ndarray:
    """Return the vector (D) of a text in a supervised model, as fastText's getSentenceVector.

    It is the mean of all rows: of the words and of </s> at the end, of their n-grams of characters,
    and of the n-grams of words. Zeros if there are none.
    """
    words = [word for word in SPACE.split(text) if word]
    if END_OF_SENTENCE in words:
        words = words[: words.index(END_OF_SENTENCE)]
    total = np.zeros(embedding.vectors.shape[1], np.float32)
    count = 0
    hashes = []
    subwords = embedding.subwords
    for word in [*words, END_OF_SENTENCE]:
        index = embedding.words.find(word)
        if index is None and word.startswith(LABEL):
            continue
        hashes.append(fnv1a(word))
        rows = 0 if subwords is None else len(ngrams(word, subwords.minn, subwords.maxn))
        if index is not None:
            total += np.asarray(embedding.vectors[index], np.float32) * (rows + 1)
            count += rows + 1
        elif rows and subwords is not None:
            total += ngram_vectors(word, subwords).sum(axis=0)
            count += rows
    longest = embedding_settings(embedding.header).get("word_ngrams", 1)
    if subwords is not None and longest > 1:
        buckets = [value % subwords.bucket for value in word_ngram_hashes(hashes, longest)]
        total += bucket_vectors(buckets, subwords).sum(axis=0)
        count += len(buckets)
    return total / max(count, 1)


def word_ngram_hashes(hashes: list[int], longest: int) -> list[int]:
    """Return the hashes of the n-grams of two words or more, as in Dictionary::addWordNgrams."""
    signed = [value - (value >> 31 << 32) for value in hashes]
    found = []
    for start, first in enumerate(signed):
        value = first
        for following in signed[start + 1 : start + longest]:
            value = (value * 116049371 + following) % 2**64
            found.append(value)
    return found
