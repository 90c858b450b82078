"""Smoothing: from counts to probabilities, with a share for n-grams that were not seen.

Each method computes, level by level, the probability of every n-gram and the back-off weight of
every context (see ngram.py). The results are in files, like the counts. Sources: Chen & Goodman
1998, "An Empirical Study of Smoothing Techniques for Language Modeling"; Heafield et al. 2013,
"Scalable Modified Kneser-Ney Language Model Estimation"; Katz 1987; Jelinek & Mercer 1980.

Shapes: V tokens, M n-grams of a level, T ids of a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import reserve_space
from dlkit.core.progress import log
from dlkit.lm_generate import compiled_ngram
from dlkit.lm_generate.counting import Counts
from dlkit.lm_generate.ngram import ABSENT, Trie

FALLBACK = (0.0, 0.5, 1.0, 1.5)  # discounts of counts 0, 1, 2 and more, as lmplz has them
KATZ_MAX = 5  # larger counts are reliable (Katz 1987)
BUCKETS = 64  # of contexts, by the binary digits of their counts
ITERATIONS = 50  # of expectation maximization


@dataclass(frozen=True)
class Smoothed:
    """Probabilities of each level, and back-off weights of each but the last (float32).

    `links` are those of `suffix_links`; add-k has none.
    """

    probs: list[np.ndarray]
    backoffs: list[np.ndarray]
    links: list[np.ndarray]


def kneser_ney(counts: Counts, thresholds: Sequence[int], folder: Path) -> Smoothed:
    """Modified Kneser-Ney, interpolated, as lmplz computes it.

    Below the highest order, the count of an n-gram is the number of different tokens before it; at
    the start of a line, where none can be, the number of its occurrences. n-grams that occur
    thresholds[level] times or less are to be pruned: they have probabilities here, but the back-off
    weights do not count on them.
    """
    links = suffix_links(counts.trie, folder)
    adjusted = adjusted_counts(counts, links, folder)
    order = counts.trie.order
    result = allocate(counts, folder, links)
    token_discounts = discounts(adjusted[0], 1)
    total = adjusted[0].sum(dtype=np.float64)
    taken = np.array(token_discounts)[np.minimum(adjusted[0], 3)]
    result.probs[0][:] = (adjusted[0] - taken + taken.sum() / counts.num_tokens) / total
    for level in range(1, order):
        compiled_ngram.kneser_ney(
            counts.trie.first[level - 1],
            adjusted[level],
            counts.counts[level],
            thresholds[level],
            links[level],
            result.probs[level - 1],
            np.array(discounts(adjusted[level], level + 1)),
            result.probs[level],
            result.backoffs[level - 1],
        )
    return result


def adjusted_counts(counts: Counts, links: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    """The adjusted counts (M) of each level, for Kneser-Ney."""
    trie = counts.trie
    adjusted = []
    begin, end = (0, 0) if trie.line_end is None else (trie.line_end, trie.line_end + 1)
    for level in range(trie.order - 1):
        numbers = new_file(folder / f"adjusted-{level}", len(trie.words[level]), np.uint32)
        compiled_ngram.count_links(links[level + 1], numbers)
        if level:  # n-grams that begin at the start of a line
            begin, end = (int(trie.first[level - 1][place]) for place in (begin, end))
            numbers[begin:end] = counts.counts[level][begin:end]
        adjusted.append(numbers)
    return [*adjusted, counts.counts[-1]]


def discounts(adjusted: np.ndarray, order: int) -> tuple[float, ...]:
    """Discounts of counts 0, 1, 2, and 3 or more (Chen & Goodman, equation 26)."""
    seen = compiled_ngram.counts_of_counts(adjusted, 4).tolist()
    if all(seen[1:4]):
        share = seen[1] / (seen[1] + 2 * seen[2])
        found = [count - (count + 1) * share * seen[count + 1] / seen[count] for count in (1, 2, 3)]
        if all(0 <= discount <= count for count, discount in enumerate(found, 1)):
            return 0.0, *found
    defaults = ", ".join(map(str, FALLBACK[1:]))
    log(f"too short or artificial a text for the discounts of order {order}: they are {defaults}")
    return FALLBACK


def jelinek_mercer(counts: Counts, held_out: np.ndarray, folder: Path) -> Smoothed:
    """Each order interpolated with the one below, the lowest with a uniform distribution.

    The weights maximize the likelihood of `held_out` by expectation maximization. Each order has
    one for each size of the context's count, in powers of two.
    """
    if not len(held_out):
        raise DlkitError(
            "--smoothing jelinek-mercer needs a validation text; give --val or --val-share"
        )
    trie = counts.trie
    links = suffix_links(trie, folder)
    result = allocate(counts, folder, links)
    places = trie.locate(held_out)
    total = int(counts.counts[0].sum(dtype=np.int64))
    seen = counts.counts[0][held_out] / total
    low = np.full(len(held_out), 1 / counts.num_tokens)
    weight = float(fit_weights(seen, low, np.zeros(len(held_out), np.int64))[0])
    result.probs[0][:] = weight * (counts.counts[0] / total) + (1 - weight) / counts.num_tokens
    low = weight * seen + (1 - weight) * low
    for level in range(1, trie.order):
        totals = np.zeros(len(trie.words[level - 1]), np.int64)
        compiled_ngram.sum_children(trie.first[level - 1], counts.counts[level], totals)
        contexts = np.append(ABSENT, places[level - 1][:-1])[: len(held_out)]
        context_totals = np.where(contexts == ABSENT, 0, totals[contexts])
        seen_at = np.flatnonzero(context_totals)
        times = np.where(places[level] == ABSENT, 0, counts.counts[level][places[level]])[seen_at]
        buckets = np.zeros(len(seen_at), np.int64)
        compiled_ngram.assign_buckets(context_totals[seen_at], buckets)
        seen = times / context_totals[seen_at]
        weights = fit_weights(seen, low[seen_at], buckets)
        own_weights = weights[buckets]
        low[seen_at] = own_weights * seen + (1 - own_weights) * low[seen_at]
        compiled_ngram.jelinek_mercer(
            trie.first[level - 1],
            counts.counts[level],
            links[level],
            result.probs[level - 1],
            weights,
            result.probs[level],
            result.backoffs[level - 1],
        )
    return result


def fit_weights(seen: np.ndarray, low: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """The weights (BUCKETS) of the higher order that maximize the likelihood of a text.

    `seen` and `low` (T) are its probabilities by the higher and the lower order. A bucket without
    text takes the weight of the next smaller one that has some.
    """
    weights = np.full(BUCKETS, 0.5)
    sizes = np.bincount(buckets, minlength=BUCKETS)
    for _ in range(ITERATIONS):
        higher = weights[buckets] * seen
        shares = higher / (higher + (1 - weights[buckets]) * low)
        means = np.bincount(buckets, shares, BUCKETS) / np.maximum(sizes, 1)
        # With a weight of 1, unseen n-grams would be impossible.
        weights = np.where(sizes > 0, np.clip(means, 0, 1 - 1e-6), weights)
    if not len(buckets):
        return weights
    filled = np.flatnonzero(sizes)
    nearest = filled[np.maximum(np.searchsorted(filled, np.arange(BUCKETS), "right") - 1, 0)]
    return weights[nearest]


def katz(counts: Counts, folder: Path) -> Smoothed:
    """Good-Turing discounts of counts up to KATZ_MAX, and back-off for the freed probability."""
    trie = counts.trie
    links = suffix_links(trie, folder)
    result = allocate(counts, folder, links)
    ratios = [good_turing(level_counts) for level_counts in counts.counts]
    result.probs[0][:] = katz_tokens(counts.counts[0], ratios[0])
    for level in range(1, trie.order):
        compiled_ngram.katz(
            trie.first[level - 1],
            counts.counts[level],
            links[level],
            result.probs[level - 1],
            ratios[level],
            result.probs[level],
            result.backoffs[level - 1],
        )
    return result


def good_turing(counts: np.ndarray) -> np.ndarray:
    """The discount ratios of counts 0 to KATZ_MAX (Katz 1987, equation 11).

    Where few n-grams make a ratio invalid, it is 1: the count stays as it is.
    """
    seen = compiled_ngram.counts_of_counts(counts, KATZ_MAX + 1).astype(np.float64)
    ratios = np.ones(KATZ_MAX + 1)
    if seen[1] == 0:
        return ratios
    common = (KATZ_MAX + 1) * seen[KATZ_MAX + 1] / seen[1]
    for count in range(1, KATZ_MAX + 1):
        if seen[count] == 0 or common >= 1:
            continue
        estimate = (count + 1) * seen[count + 1] / seen[count]
        share = (estimate / count - common) / (1 - common)
        if 0 < share < 1:
            ratios[count] = share
    return ratios


def katz_tokens(counts: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """The probability of each token (V); unseen tokens share the freed probability equally."""
    kept: np.ndarray = counts * np.where(
        counts <= KATZ_MAX, ratios[np.minimum(counts, KATZ_MAX)], 1
    )
    unseen = counts == 0
    probs: np.ndarray
    if unseen.any():
        total = counts.sum(dtype=np.float64)
        if kept.sum() > total * (1 - 1e-9):
            total += 1
        probs = np.where(unseen, (1 - kept.sum() / total) / unseen.sum(), kept / total)
    else:
        probs = kept / kept.sum()
    return probs


def add_k(counts: Counts, k: float, folder: Path) -> Smoothed:
    """Add `k` to the count of each token after each context; 0 is maximum likelihood.

    The back-off weights hold the probability of each token that was not seen in the context. An
    unseen context is shortened until it was seen.
    """
    result = allocate(counts, folder, [])
    total = counts.counts[0].sum(dtype=np.float64) + k * counts.num_tokens
    result.probs[0][:] = (counts.counts[0] + k) / total
    for level in range(1, counts.trie.order):
        compiled_ngram.add_k(
            counts.trie.first[level - 1],
            counts.counts[level],
            k,
            counts.num_tokens,
            result.probs[level],
            result.backoffs[level - 1],
        )
    return result


def suffix_links(trie: Trie, folder: Path) -> list[np.ndarray]:
    """For each n-gram (M) of each level the index, a level below, of all but its first token."""
    links = [np.empty(0, np.uint32)]
    for level in range(1, trie.order):
        if level == 1:
            links.append(trie.words[1])
            continue
        links.append(new_file(folder / f"links-{level}", len(trie.words[level]), np.uint32))
        compiled_ngram.link_suffixes(
            trie.first[level - 1],
            trie.words[level],
            links[level - 1],
            trie.first[level - 2],
            trie.words[level - 1],
            links[level],
        )
    return links


def allocate(counts: Counts, folder: Path, links: list[np.ndarray]) -> Smoothed:
    """Allocate the probabilities and back-off weights of these counts."""
    sizes = [len(words) for words in counts.trie.words]
    return Smoothed(
        [new_file(folder / f"probs-{n}", size, np.float32) for n, size in enumerate(sizes)],
        [new_file(folder / f"backoffs-{n}", size, np.float32) for n, size in enumerate(sizes[:-1])],
        links,
    )


def new_file(path: Path, size: int, dtype: Any) -> np.ndarray:
    """Map a new file of zeros, which numpy refuses for a size of 0."""
    if not size:
        return np.empty(0, dtype)
    mapped = np.memmap(path, dtype, "w+", shape=(size,))
    reserve_space(path)
    return np.asarray(mapped)
