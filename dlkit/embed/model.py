"""Word vectors: a vocabulary, a vector for each word and, from fastText, vectors of n-grams.

A file is one safetensors file like every model's, but written and read with numpy alone, and mapped
into memory: a query touches the pages it needs.

Shapes: N words, D dimensions, R n-gram buckets that hold a vector.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.mapped import damaged, map_arrays, write_arrays

FEW = 64  # words that are looked up by searching; more are worth an index
BLOCK = 4096  # rows computed on at once: they stay in the processor's cache


class Words:
    """A vocabulary in file order, as bytes; a word may hold anything but a line break."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray) -> None:
        """`blob` (uint8) is each word and a line break; `offsets` (N + 1) where each begins."""
        self.blob = blob
        self.offsets = offsets
        self.searched = 0

    @classmethod
    def of(cls, words: Iterable[str]) -> "Words":
        return cls.of_bytes([word.encode("utf-8", "surrogateescape") for word in words])

    @classmethod
    def of_bytes(cls, words: Sequence[bytes]) -> "Words":
        if bad := next((word for word in words if b"\n" in word), None):
            raise DlkitError(f"the word {bad!r} has a line break in it")
        lengths = np.fromiter((len(word) + 1 for word in words), np.int64, len(words))
        joined = b"".join(word + b"\n" for word in words)
        return cls(np.frombuffer(joined, np.uint8), np.append(0, np.cumsum(lengths)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        word = self.blob[self.offsets[index] : self.offsets[index + 1] - 1]
        return word.tobytes().decode("utf-8", "surrogateescape")

    def all(self) -> list[str]:
        return self.content.decode("utf-8", "surrogateescape").split("\n")[:-1]

    @cached_property
    def content(self) -> bytes:
        return self.blob.tobytes()

    @cached_property
    def index(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.all())}

    def find(self, word: str) -> int | None:
        """The word's index. The first few are searched for, which is quicker than to index all."""
        self.searched += 1
        if self.searched > FEW:
            return self.index.get(word)
        line = word.encode("utf-8", "surrogateescape") + b"\n"
        if self.content.startswith(line):
            return 0
        place = self.content.find(b"\n" + line)
        return None if place < 0 else int(np.searchsorted(self.offsets, place + 1))


@dataclass(frozen=True)
class Subwords:
    """fastText's vectors of n-grams: only of the buckets that training touched."""

    minn: int
    maxn: int
    bucket: int  # the buckets that hashes are taken modulo
    buckets: np.ndarray  # int64 (R), the numbers of those that are kept, ascending
    vectors: np.ndarray  # (R, D)


@dataclass(frozen=True)
class Embedding:
    """What training makes and queries use; `norms` are computed when they were not stored.

    Stored norms (4 bytes a word) save a query a second pass over vectors that hardly fit in memory.
    """

    header: Header
    words: Words
    vectors: np.ndarray  # (N, D) float32 or float16; of fastText the mean of own row and n-grams
    counts: np.ndarray | None = None  # int64 (N)
    subwords: Subwords | None = None
    stored_norms: np.ndarray | None = None  # float32 (N)

    @cached_property
    def norms(self) -> np.ndarray:
        """Euclidean lengths (N), float32."""
        if self.stored_norms is not None:
            return self.stored_norms
        return lengths(self.vectors)


def lengths(vectors: np.ndarray) -> np.ndarray:
    """The Euclidean length (N) of each row, float32."""
    norms = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float32, copy=False)
        norms[start : start + BLOCK] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return norms


def save(path: Path, embedding: Embedding, half: bool = False) -> None:
    """Write the embedding, whole or not at all; `half` stores vectors in half precision."""

    def precise(vectors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(vectors, np.float16 if half else vectors.dtype)

    vectors = precise(embedding.vectors)
    tensors = {"offsets": embedding.words.offsets.astype(np.int64), "vectors": vectors}
    if embedding.counts is not None:
        tensors["counts"] = embedding.counts.astype(np.int64)
    header = embedding.header
    if (subwords := embedding.subwords) is not None:
        sizes = {"minn": subwords.minn, "maxn": subwords.maxn, "bucket": subwords.bucket}
        header = Header(**{**asdict(header), "settings": {**header.settings, **sizes}})
        tensors["buckets"] = subwords.buckets.astype(np.int64)
        tensors["ngrams"] = precise(subwords.vectors)
    tensors["norms"] = lengths(vectors)
    tensors["words"] = embedding.words.blob
    write_arrays(path, tensors, header)


def load(path: Path) -> Embedding:
    """The embedding of a safetensors file, mapped into memory; small files are verified."""
    header, tensors = map_arrays(path, "embed")
    try:
        subwords = None
        if "buckets" in tensors:
            minn, maxn, bucket = (int(header.settings[k]) for k in ("minn", "maxn", "bucket"))
            subwords = Subwords(minn, maxn, bucket, tensors["buckets"], tensors["ngrams"])
        words = Words(tensors["words"], tensors["offsets"])
        vectors = tensors["vectors"]
        if vectors.shape[0] != len(words):
            raise ValueError(f"{len(words)} words and {vectors.shape[0]} vectors")
        counts, norms = tensors.get("counts"), tensors.get("norms")
        return Embedding(header, words, vectors, counts, subwords, norms)
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
