"""Word vectors: a vocabulary, a vector for each word and, from fastText, vectors of n-grams.

They are saved as one safetensors file like every model, but numpy alone writes, reads and maps it:
a query reads only the pages it needs.

Shapes: N words, D dimensions, R n-gram buckets that hold a vector.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import STEPS, Header
from dlkit.core.store.mapped import array, damaged, map_arrays, write_arrays

MAX_SEARCHES = 64  # look-ups by searching; more are worth building an index
BLOCK = 4096  # rows computed at once: they stay in the processor's cache


class EmbeddingSettings(TypedDict):
    """The settings in the header of word vectors."""

    dim: int
    # Of fasttext, whose n-grams of characters have vectors, too:
    fasttext_model: NotRequired[Literal["skipgram", "cbow", "supervised"]]
    minn: NotRequired[int]  # shortest and longest n-grams
    maxn: NotRequired[int]
    bucket: NotRequired[schema.Count]  # number of the hash values of n-grams
    word_ngrams: NotRequired[int]  # supervised: longest n-grams of words


def embedding_settings(header: Header) -> EmbeddingSettings:
    """The settings of an embedding's header."""
    settings: EmbeddingSettings = schema.fit(EmbeddingSettings, header.settings)
    return settings


class WordList:
    """A vocabulary in file order, as bytes; a word may hold anything but a line break."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray) -> None:
        """`blob` (uint8) holds each word and a line break; `offsets` (N + 1) are their starts."""
        self.blob = blob
        self.offsets = offsets
        self.searched = 0

    @classmethod
    def from_strings(cls, words: Iterable[str]) -> "WordList":
        return cls.from_bytes([word.encode("utf-8", "surrogateescape") for word in words])

    @classmethod
    def from_bytes(cls, words: Sequence[bytes]) -> "WordList":
        if bad := next((word for word in words if b"\n" in word), None):
            raise DlkitError(f"the word {bad!r} contains a line break; remove it")
        lengths = np.fromiter((len(word) + 1 for word in words), np.int64, len(words))
        joined = b"".join(word + b"\n" for word in words)
        return cls(np.frombuffer(joined, np.uint8), np.append(0, np.cumsum(lengths)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        word = self.blob[self.offsets[index] : self.offsets[index + 1] - 1]
        return word.tobytes().decode("utf-8", "surrogateescape")

    def to_list(self) -> list[str]:
        return self.content.decode("utf-8", "surrogateescape").split("\n")[:-1]

    @cached_property
    def content(self) -> bytes:
        return self.blob.tobytes()

    @cached_property
    def index(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.to_list())}

    def find(self, word: str) -> int | None:
        """Return the word's index; the first look-ups search, which is faster than indexing all."""
        self.searched += 1
        if self.searched > MAX_SEARCHES:
            return self.index.get(word)
        line = word.encode("utf-8", "surrogateescape") + b"\n"
        if self.content.startswith(line):
            return 0
        place = self.content.find(b"\n" + line)
        return None if place < 0 else int(np.searchsorted(self.offsets, place + 1))


@dataclass(frozen=True)
class Subwords:
    """fastText's n-gram vectors, only for the buckets that occurred in training."""

    minn: int
    maxn: int
    bucket: int  # number of all buckets: hashes are taken modulo this
    buckets: np.ndarray  # int64 (R), the buckets that are kept, ascending
    vectors: np.ndarray  # (R, D)


@dataclass(frozen=True)
class Embedding:
    """Trained word vectors with their vocabulary.

    Stored norms (4 bytes a word) save a query a second pass over vectors that hardly fit in memory;
    `norms` computes them where they are not stored.
    """

    header: Header
    words: WordList
    vectors: np.ndarray  # (N, D) float32 or float16; in fastText the mean of own row and n-grams
    counts: np.ndarray | None = None  # int64 (N)
    subwords: Subwords | None = None
    stored_norms: np.ndarray | None = None  # float32 (N)

    @cached_property
    def norms(self) -> np.ndarray:
        """Euclidean norms (N), float32."""
        if self.stored_norms is not None:
            return self.stored_norms
        return row_norms(self.vectors)


def quote_word(word: bytes) -> str:
    """Quote a word for a message, cut to 40 characters."""
    decoded = word.decode("utf-8", "backslashreplace")
    return repr(decoded if len(decoded) <= 40 else f"{decoded[:40]}…")


def row_norms(vectors: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm (N) of each row, float32."""
    norms = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float32, copy=False)
        norms[start : start + BLOCK] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return norms


def save_embedding(path: Path, embedding: Embedding, bits: int | None = None) -> None:
    """Write the embedding atomically, with `bits` for each number of a vector; None: as they are.

    16 is half precision, 8 an integer share of the largest number of its vector.
    """
    tensors = {"offsets": embedding.words.offsets.astype(np.int64)}

    def add(name: str, vectors: np.ndarray) -> np.ndarray:
        """Store vectors under this name; return them as they will be read."""
        if bits == 8:
            tensors[name], tensors[name + STEPS] = quantize(vectors)
            return dequantize(tensors[name], tensors[name + STEPS])
        tensors[name] = np.ascontiguousarray(vectors, np.float16 if bits == 16 else vectors.dtype)
        return tensors[name]

    vectors = add("vectors", embedding.vectors)
    if embedding.counts is not None:
        tensors["counts"] = embedding.counts.astype(np.int64)
    header = embedding.header
    if (subwords := embedding.subwords) is not None:
        settings = embedding_settings(header).copy()
        settings["minn"], settings["maxn"] = subwords.minn, subwords.maxn
        settings["bucket"] = subwords.bucket
        header = replace(header, settings=settings)
        tensors["buckets"] = subwords.buckets.astype(np.int64)
        add("ngrams", subwords.vectors)
    tensors["norms"] = row_norms(vectors)
    tensors["words"] = embedding.words.blob
    write_arrays(path, tensors, header)


def quantize(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric quantization of vectors (N, D): integers from -127 to 127, and steps (N)."""
    exact = np.asarray(vectors, np.float32)
    steps = np.abs(exact).max(axis=1, initial=0) / 127
    counts = np.divide(exact, steps[:, None], out=np.zeros_like(exact), where=steps[:, None] > 0)
    return np.rint(counts).astype(np.int8), steps.astype(np.float32)


def dequantize(counts: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The float32 vectors (N, D) of `quantize`'s integers and steps."""
    vectors: np.ndarray = counts.astype(np.float32) * steps[:, None]
    return vectors


def stored_vectors(path: Path, tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The vectors of this name, of 32, 16 or 8 bits a number; the latter as float32."""
    if name + STEPS not in tensors:
        return array(path, tensors, name, "f", 2)
    counts, steps = array(path, tensors, name, "i", 2), array(path, tensors, name + STEPS, "f", 1)
    if len(counts) != len(steps):
        raise damaged(path, f"{len(counts)} rows of {name!r} and {len(steps)} steps")
    return dequantize(counts, steps)


def load_embedding(path: Path) -> Embedding:
    """Map the embedding in a safetensors file into memory; verify the checksum of small files."""
    header, tensors = map_arrays(path, "embed")
    try:
        settings = embedding_settings(header)
    except DlkitError as error:
        raise DlkitError(str(error), path) from error
    words = WordList(array(path, tensors, "words", "u", 1), array(path, tensors, "offsets", "i", 1))
    vectors = stored_vectors(path, tensors, "vectors")
    rows, dim = vectors.shape
    ends = words.offsets
    if len(ends) != rows + 1 or ends[0] != 0 or ends[-1] != len(words.blob) or not dim:
        raise damaged(path, f"{len(ends) - 1} words and {rows} vectors of {dim} numbers")
    if (np.diff(ends) < 1).any():
        raise damaged(path, "the places of its words are not in order")
    subwords = None
    if "buckets" in tensors:
        buckets = array(path, tensors, "buckets", "i", 1)
        ngrams = stored_vectors(path, tensors, "ngrams")
        if ngrams.shape != (len(buckets), dim) or not {"minn", "maxn", "bucket"} <= settings.keys():
            raise damaged(path, "its n-grams do not fit its vectors")
        subwords = Subwords(settings["minn"], settings["maxn"], settings["bucket"], buckets, ngrams)
    optional = {
        name: array(path, tensors, name, kind, 1) if name in tensors else None
        for name, kind in (("counts", "i"), ("norms", "f"))
    }
    if any(found is not None and len(found) != rows for found in optional.values()):
        raise damaged(path, "its counts or norms are not one for each word")
    return Embedding(header, words, vectors, optional["counts"], subwords, optional["norms"])
