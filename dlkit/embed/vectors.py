"""Look-up in word vectors: vectors of words and sentences, spelling suggestions.

Loads numpy, but neither torch nor numba, so that a query starts fast.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.store.weights import find
from dlkit.embed.config import DEFAULT_MODEL
from dlkit.embed.formats import is_foreign, read_vectors
from dlkit.embed.model import Embedding, load_embedding
from dlkit.embed.nearest import unit
from dlkit.embed.subwords import vector_of_unknown

SUGGESTED = 200_000  # most frequent words, which suggestions come from
LONGEST_MISSPELLED = 40  # characters: longer words get no suggestions


@dataclass(frozen=True)
class Vectors:
    """An embedding with look-up by word; `name` identifies it in error messages."""

    name: str
    embedding: Embedding

    def index(self, word: str) -> int | None:
        """Return the index of a word or, if that is unknown, of the lower-cased word."""
        found = self.embedding.words.find(word)
        if found is None and word != word.lower():
            found = self.embedding.words.find(word.lower())
        return found

    def word_vector(self, word: str) -> np.ndarray | None:
        """Return a word's vector (D), float32; an unknown word's comes from its n-grams, if any."""
        index = self.index(word)
        if index is not None:
            return np.asarray(self.embedding.vectors[index], np.float32)
        if self.embedding.subwords is None:
            return None
        return vector_of_unknown(word, self.embedding.subwords)

    def text_vector(self, text: str) -> np.ndarray:
        """Return the vector (D) of a word, or the mean of a sentence's word vectors, normalized.

        The mean matches fastText's getSentenceVector: words without a vector, or with zeros, do not
        count. A blank text gets zeros.
        """
        words = text.split()
        if not words:
            return np.zeros(self.embedding.vectors.shape[1], np.float32)
        index = self.index(text.strip())
        if index is not None:  # a word may contain spaces
            return np.asarray(self.embedding.vectors[index], np.float32)
        if len(words) == 1:
            vector = self.word_vector(words[0])
            if vector is None:
                raise DlkitError(self.unknown_word(words[0]))
            return vector
        vectors = [vector for word in words if (vector := self.word_vector(word)) is not None]
        directions = [unit(vector) for vector in vectors if vector.any()]
        if not directions:
            raise DlkitError(f"none of its words is in the vocabulary of {self.name}")
        return np.asarray(np.mean(directions, axis=0))

    def known_words(self, text: str) -> list[int]:
        """Return the indices of a text's known words, and of the text if it is a word itself."""
        parts = {text, *text.split()}
        return [index for part in parts if (index := self.index(part)) is not None]

    def unknown_word(self, word: str) -> str:
        """Return the message for an unknown word, with similar spellings."""
        similar = self.suggestions(word)
        hint = f"; did you mean {', '.join(similar)}?" if similar else ""
        return f"not in the vocabulary of {self.name}{hint}"

    @cached_property
    def frequent_words(self) -> dict[str, int]:
        """The most frequent words with their indices, which suggestions come from."""
        words = self.embedding.words
        end = words.offsets[min(len(words), SUGGESTED)]
        frequent = words.blob[:end].tobytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
        return {word: index for index, word in enumerate(frequent)}

    def suggestions(self, word: str) -> list[str]:
        """Return up to three words, most frequent first, in another case or one edit away."""
        if len(word) > LONGEST_MISSPELLED:
            return []
        similar = {word.capitalize(), word.upper()}
        for spelling in {word, word.lower()}:
            similar |= single_edits(spelling)
        known = self.frequent_words
        return sorted(similar & known.keys(), key=known.__getitem__)[:3]


def single_edits(word: str) -> set[str]:
    """Return the spellings with one letter inserted, deleted or replaced, or two swapped."""
    letters = {*ascii_lowercase, *word}
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    deleted = {left + right[1:] for left, right in cuts if right}
    swapped = {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    replaced = {left + letter + right[1:] for left, right in cuts if right for letter in letters}
    inserted = {left + letter + right for left, right in cuts for letter in letters}
    return deleted | swapped | replaced | inserted


def load(
    model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> Vectors:
    """Load vectors by name, file or URL; other tools' files are read completely.

    `device` and `precision` have no effect.
    """
    name = str(model)
    path = Path(model) if is_foreign(name) else find("embed", name)
    return Vectors(name, read_vectors(path) if is_foreign(str(path)) else load_embedding(path))
