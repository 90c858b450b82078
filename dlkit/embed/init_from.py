"""Vectors that training starts from: those of the model of `--init-from`.

Shapes: N words of the corpus, K of them known to the model, D dimensions, G buckets of n-grams.
"""

from dataclasses import dataclass

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log
from dlkit.embed.config import EmbedMethod, ResolvedConfig
from dlkit.embed.model import Embedding, Subwords, WordList
from dlkit.embed.vectors import load

SHOWN = 3  # new words that a line on stderr names


@dataclass(frozen=True)
class Start:
    """The model of `--init-from`, and the name that the user gave it."""

    name: str
    embedding: Embedding

    def rows(self, words: list[str], buckets: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The rows (int64) that start from the model, and their vectors (float32).

        Row w < N is word w's own; with `buckets` (G), row N + g is that of the n-grams in bucket g.
        New words keep their random start; a line on stderr counts them. Raises DlkitError if the
        model knows no word.
        """
        index = self.embedding.words.index
        known = [number for number, word in enumerate(words) if word in index]
        new = [word for word in words if word not in index]
        if not known:
            raise DlkitError(
                f"--init-from {self.name}: has none of the {len(words)} words of the corpus"
            )
        named = f", such as {', '.join(map(repr, new[:SHOWN]))}" if new else ""
        log(
            f"{len(known)} of {len(words)} words start from the vectors of {self.name};"
            f" {len(new)} are new{named}; {len(index) - len(known)} of its words are not in the"
            " corpus, and not in the new model"
        )
        vectors = self.vectors_of([words[number] for number in known])
        rows = np.array(known, np.int64)
        if buckets is None:
            return rows, vectors
        old = self.embedding.subwords
        assert old is not None  # as `find_start` has checked
        own = own_rows([words[number] for number in known], vectors, old)
        _, places, of_old = np.intersect1d(
            buckets, np.asarray(old.buckets), assume_unique=True, return_indices=True
        )
        ngrams = np.asarray(old.vectors)[of_old].astype(np.float32)
        return np.concatenate([rows, len(words) + places]), np.concatenate([own, ngrams])

    def vectors_of(self, words: list[str]) -> np.ndarray:
        """The vectors (K, D) of known words."""
        index = self.embedding.words.index
        places = [index[word] for word in words]
        return np.asarray(self.embedding.vectors[places], np.float32)


def find_start(config: ResolvedConfig) -> Start | None:
    """The model of `--init-from`, if it is given.

    Raises DlkitError for one of another dimension, and, for fastText, of other n-grams.
    """
    if config.init_from is None:
        return None
    start = Start(config.init_from, load(config.init_from).embedding)
    dim = start.embedding.vectors.shape[1]
    if dim != config.dim:
        raise DlkitError(
            f"--init-from {start.name}: its vectors have {dim} numbers; give --dim {dim}"
        )
    if config.method is EmbedMethod.fasttext and config.maxn:
        old = start.embedding.subwords
        if old is None:
            raise DlkitError(
                f"--init-from {start.name}: has no vectors of n-grams; give a model of fastText, or"
                " --maxn 0"
            )
        for name in ("minn", "maxn", "bucket"):
            if getattr(old, name) != getattr(config, name):
                raise DlkitError(
                    f"--init-from {start.name}: its n-grams have --{name} {getattr(old, name)};"
                    " give the same"
                )
    return start


def own_rows(words: list[str], vectors: np.ndarray, subwords: Subwords) -> np.ndarray:
    """The own rows (K, D) of words whose vectors are the means of those and of their n-grams."""
    from dlkit.embed.compiled_subwords import sum_ngram_vectors

    sums, counts = sum_ngram_vectors(WordList.from_strings(words), subwords)
    rows: np.ndarray = vectors * (counts + 1)[:, None].astype(np.float32) - sums
    return rows
