"""Look-up in word vectors: vectors of words and sentences, nearest words, spelling suggestions.

Loads numpy, but neither torch nor numba, so that a query starts fast.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, note
from dlkit.core.io.files import is_file
from dlkit.core.io.kinds import HEAD, MODEL_FILE, kind_of
from dlkit.core.io.text import reading_errors
from dlkit.core.store.weights import SUFFIXES, UnknownModel, bundled, cached, find
from dlkit.embed import formats
from dlkit.embed.config import DEFAULT_MODEL
from dlkit.embed.formats import read_vectors
from dlkit.embed.model import Embedding, embedding_settings, load_embedding
from dlkit.embed.nearest import Objective, solve_analogies, top_k, unit
from dlkit.embed.results import Analogy, Answer, Neighbor, Similar
from dlkit.embed.subwords import mean_of_features, vector_of_unknown

SUGGESTED = 200_000  # most frequent words, which suggestions come from
NO_DIRECTION = "its vector is zeros, which have no direction; cosines with it are undefined"
FROM_LETTERS = "not in the vocabulary, so that the vector comes from the letters"
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
        vector = vector_of_unknown(word, self.embedding.subwords)
        if vector is not None:
            note(FROM_LETTERS, word)
        return vector

    def text_vector(self, text: str) -> np.ndarray:
        """Return the vector (D) of a word, or the mean of a sentence's word vectors, normalized.

        The mean matches fastText's getSentenceVector: words without a vector, or with zeros, do not
        count. In a supervised model it is the mean of the features (`mean_of_features`). A blank
        text gets zeros.
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
        if embedding_settings(self.embedding.header).get("fasttext_model") == "supervised":
            return mean_of_features(text, self.embedding)
        vectors = [vector for word in words if (vector := self.word_vector(word)) is not None]
        directions = [unit(vector) for vector in vectors if vector.any()]
        if not directions:
            if vectors:
                raise DlkitError(NO_DIRECTION)
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

    def search(
        self, queries: Sequence[str], top: int = 10, restrict: int | None = None
    ) -> Iterator[Similar | Failure]:
        """Find the words nearest to each query, a word or a sentence, in one search for all."""
        directions: list[np.ndarray] = []
        failures: list[Failure | None] = []
        for query in queries:
            try:
                if not query.strip():
                    raise DlkitError("the query is empty; give a word or a sentence")
                directions.append(direction_of(self.text_vector(query)))
                failures.append(None)
            except DlkitError as error:
                failures.append(Failure(query, str(error)))
        valid = [query for query, failure in zip(queries, failures, strict=True) if failure is None]
        exclude = [self.known_words(query) for query in valid]
        found: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())
        if valid:
            words, scores = top_k(self.embedding, np.stack(directions), top, exclude, restrict)
            found = zip(words, scores, strict=True)
        for query, failure in zip(queries, failures, strict=True):
            yield failure or Similar(
                query, [Neighbor(*pair) for pair in self.scored_words(*next(found))]
            )

    def nearest(self, text: str, top: int = 10, restrict: int | None = None) -> Similar:
        """Find the words nearest to a word or a sentence. Raises DlkitError for unknown words."""
        (found,) = self.search([text], top, restrict)
        if isinstance(found, Failure):
            raise DlkitError(found.error, text)
        return found

    def scored_words(self, words: np.ndarray, scores: np.ndarray) -> Iterator[tuple[str, float]]:
        """Yield the words with these indices and their scores, without those of score -inf."""
        for word, score in zip(words, scores, strict=True):
            if np.isfinite(score):
                yield self.embedding.words[word], round(float(score), 4)

    def analogy(
        self,
        a: str,
        b: str,
        c: str,
        top: int = 10,
        restrict: int | None = None,
        objective: Objective = "3cosadd",
    ) -> Analogy:
        """Find the words x for which a is to b as x is to c. Raises DlkitError as `direction`."""
        terms = np.stack([self.direction(word) for word in (a, b, c)])
        exclude = [[i for word in (a, b, c) for i in self.known_words(word)]]
        words, scores = solve_analogies(
            self.embedding, terms[None], objective, top, exclude, restrict
        )
        return Analogy(a, b, c, [Answer(*p) for p in self.scored_words(words[0], scores[0])])

    def similarity(self, a: str, b: str) -> float:
        """Return the cosine of two words or sentences. Raises DlkitError for unknown words."""
        directions = []
        for text in (a, b):
            try:
                directions.append(direction_of(self.text_vector(text)))
            except DlkitError as error:
                raise DlkitError(error.reason, text) from error
        return round(float(directions[0] @ directions[1]), 4)

    def direction(self, word: str) -> np.ndarray:
        """Return a word's vector (D), scaled to length 1.

        Raises DlkitError for an unknown word and for a vector of zeros.
        """
        vector = self.word_vector(word)
        if vector is None:
            raise DlkitError(self.unknown_word(word), word)
        try:
            return direction_of(vector)
        except DlkitError as error:
            raise DlkitError(error.reason, word) from error

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


def direction_of(vector: np.ndarray) -> np.ndarray:
    """Return the vector (D), scaled to length 1; raises DlkitError for zeros."""
    if not vector.any():
        raise DlkitError(NO_DIRECTION)
    return unit(vector)


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
    path = locate(name)
    return Vectors(name, load_embedding(path) if is_model_file(path) else read_vectors(path))


def locate(name: str) -> Path:
    """The file of a model: its path in any format, a URL, or a name."""
    path = Path(name)
    if "://" in name or name.endswith(SUFFIXES):
        return find("embed", name)
    known = {file.stem for file in [*cached("embed"), *bundled("embed")]}
    is_path = os.path.exists(name) and not os.path.isdir(name)
    if name not in known and (is_path or name.endswith(formats.SUFFIXES)):
        return path
    try:
        return find("embed", name)
    except UnknownModel as error:
        raise DlkitError(f"{error.reason}, or of {formats.READ}") from error


def is_model_file(path: Path) -> bool:
    """Whether dlkit's own reader opens the file: by its first bytes or by its name."""
    if path.suffix in SUFFIXES:
        return True
    if not is_file(path):
        return False
    with reading_errors(str(path)), path.open("rb") as file:
        return kind_of(file.read(HEAD)) == MODEL_FILE
