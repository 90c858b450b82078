"""Linear classifiers of the n-grams of words in a text, and their vote with a network.

Shapes: B texts of T words, M n-grams of them, F known n-grams, L labels, K outputs: one if there
are two labels, else L.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.classify.models.text import PADDING, TextNetwork, divide_among_words
from dlkit.core.store import schema


class NgramModel(TextNetwork):
    """A linear layer on the values of the n-grams of a text, fitted by `dlkit.classify.ngrams`.

    `keys` (F,) are the known n-grams in order: numbers whose digits are the words, to the base of
    the vocabulary's size. Others have no value.
    """

    def __init__(
        self, num_labels: int, vocab_size: int, ngrams: schema.Count, features: schema.Count
    ) -> None:
        super().__init__()
        self.vocab_size, self.ngrams = vocab_size, ngrams
        outputs = 1 if num_labels == 2 else num_labels
        self.keys: Tensor
        self.weights: Tensor
        self.bias: Tensor
        self.register_buffer("keys", torch.zeros(features, dtype=torch.long))
        self.register_buffer("weights", torch.zeros(outputs, features))
        self.register_buffer("bias", torch.zeros(outputs))

    def values(self, rows: Tensor, counts: Tensor) -> Tensor:
        """The value (B, M) of each occurrence of n-grams.

        `rows` (B, M) are their places in `keys`, F for unknown ones, and `counts` how often each is
        in its text.
        """
        raise NotImplementedError

    def rows(self, ids: Tensor) -> list[Tensor]:
        """The places in `keys` of words (B, T), bigrams (B, T - 1), ...; F for unknown ones."""
        found = []
        for keys in ngram_keys(ids, self.vocab_size, self.ngrams):
            place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
            known = (self.keys[place] == keys) & (keys != PADDING)
            found.append(place.where(known, len(self.keys)))
        return found

    def contributions(self, ids: Tensor) -> list[Tensor]:
        """The contribution (B, M, L) of each word, bigram, ... to the logits."""
        rows = self.rows(ids)
        every = torch.cat(rows, dim=1)
        values = self.values(every, occurrences(every, len(self.keys) + 1))
        added = values[..., None] * F.pad(self.weights, (0, 1)).T[every]
        return list(two_sided(added).split([own.shape[1] for own in rows], dim=1))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, L) of ids (B, T)."""
        added = torch.cat(self.contributions(ids), dim=1).sum(dim=1)
        return added + two_sided(self.bias)

    @torch.no_grad()
    def word_weights(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """The exact contribution (B, T) of each word to the logit; with the bias they sum to it.

        An n-gram's contribution is divided equally among its words.
        """
        parts = self.contributions(ids)
        best = self.best(ids) if labels is None else labels
        place = best[:, None, None]
        own = [part.gather(2, place.expand(-1, part.shape[1], 1)).squeeze(2) for part in parts]
        return divide_among_words(own, ids.shape[1])


class NaiveBayesNgrams(NgramModel):
    """N-grams that are in a text or not, each with a weight: see `ngrams.fit_naive_bayes`."""

    def values(self, rows: Tensor, counts: Tensor) -> Tensor:
        return 1 / counts


class TfIdfNgrams(NgramModel):
    """N-grams by their number times their inverse document frequency; a text has the norm 1."""

    def __init__(
        self, num_labels: int, vocab_size: int, ngrams: schema.Count, features: schema.Count
    ) -> None:
        super().__init__(num_labels, vocab_size, ngrams, features)
        self.idf: Tensor
        self.register_buffer("idf", torch.zeros(features))

    def values(self, rows: Tensor, counts: Tensor) -> Tensor:
        idf = F.pad(self.idf, (0, 1))[rows]
        norm = (counts * idf.square()).sum(dim=1, keepdim=True).sqrt()
        return idf / norm.clamp(min=1e-12)


class Vote(TextNetwork):
    """The mean of the probabilities of a network and of a linear model of n-grams.

    In training it is the network alone.
    """

    def __init__(self, network: TextNetwork, ngrams: NgramModel) -> None:
        super().__init__()
        self.network, self.ngrams = network, ngrams

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, L) of ids (B, T): in evaluation, logarithms of the mean probabilities."""
        logits: Tensor = self.network(ids)
        if self.training:
            return logits
        votes = [part.float().log_softmax(dim=1) for part in (logits, self.ngrams(ids))]
        return torch.logaddexp(*votes)

    def word_weights(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of the weights of both for the label that they chose."""
        with torch.no_grad():
            chosen = self.best(ids) if labels is None else labels
        both = [part.word_weights(ids, chosen) for part in (self.network, self.ngrams)]
        return torch.stack(both).mean(dim=0)


def ngram_keys(ids: Tensor, vocab_size: int, longest: int) -> list[Tensor]:
    """The keys of words (B, T), bigrams (B, T - 1), ...; 0 if padding is in them."""
    found = [ids]
    whole = ids != PADDING
    for n in range(2, min(longest, ids.shape[1]) + 1):
        last = ids[:, n - 1 :]
        whole = whole[:, :-1] & (last != PADDING)
        found.append((found[-1][:, :-1] * vocab_size + last) * whole)
    return found


def occurrences(rows: Tensor, size: int) -> Tensor:
    """The number of times that each of the numbers (B, M) below `size` is in its row."""
    of_text = torch.arange(len(rows), device=rows.device)[:, None] * size + rows
    _, place, counts = of_text.unique(return_inverse=True, return_counts=True)
    found: Tensor = counts[place]
    return found


def two_sided(outputs: Tensor) -> Tensor:
    """Logits (..., L) of outputs (..., K); a single one is the difference of two."""
    return torch.cat([-outputs, outputs], dim=-1) / 2 if outputs.shape[-1] == 1 else outputs


NGRAM_MODELS: dict[str, Callable[..., NgramModel]] = {
    "nbsvm": NaiveBayesNgrams,
    "tfidf": TfIdfNgrams,
}
