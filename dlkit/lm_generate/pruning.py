"""Pruning n-grams: rare ones, or all but the most important ones.

The beginnings of n-grams that are kept are kept as well. Shapes: M n-grams of a level.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.lm_generate import compiled_ngram
from dlkit.lm_generate.counting import Counts
from dlkit.lm_generate.ngram import Trie
from dlkit.lm_generate.smoothing import Smoothed, new_file


def parse_thresholds(setting: str, order: int) -> list[int]:
    """Parse a count for each order, such as `0 0 1`; the last one also holds for higher orders."""
    try:
        given = [int(number) for number in setting.split()] or [0]
    except ValueError:
        given = [-1]
    found = [*given, *[given[-1]] * order][:order]
    if min(given) < 0 or len(given) > order or found != sorted(found):
        raise DlkitError(
            f"--prune {setting!r}: give up to {order} counts, none below the one before"
        )
    if found[0]:
        raise DlkitError(f"--prune {setting!r}: single tokens cannot be pruned; begin with 0")
    return found


def select_frequent(counts: Counts, thresholds: Sequence[int]) -> list[np.ndarray]:
    """Masks (M) of the n-grams of each level that occur more often than its threshold.

    All single tokens are kept.
    """
    return [
        level_counts > threshold if level else np.ones(len(level_counts), bool)
        for level, (level_counts, threshold) in enumerate(
            zip(counts.counts, thresholds, strict=True)
        )
    ]


def select_important(
    counts: Counts, smoothed: Smoothed, most: int, folder: Path
) -> list[np.ndarray]:
    """Masks (M) of the `most` n-grams whose pruning costs the text the most log-probability."""
    trie = counts.trie
    losses = [np.full(counts.num_tokens, np.inf, np.float32)]
    for level in range(1, trie.order):
        losses.append(new_file(folder / f"losses-{level}", len(trie.words[level]), np.float32))
        compiled_ngram.pruning_losses(
            trie.first[level - 1],
            counts.counts[level],
            smoothed.links[level],
            smoothed.probs[level - 1],
            smoothed.probs[level],
            losses[level],
        )
    for level in range(trie.order - 1, 1, -1):
        compiled_ngram.propagate_max(trie.first[level - 1], losses[level], losses[level - 1])
    threshold = find_threshold(losses, most)
    return [loss > threshold for loss in losses]


def find_threshold(losses: Sequence[np.ndarray], most: int) -> float:
    """The smallest loss that at most `most` of them exceed."""
    total = sum(map(len, losses))
    if total <= most:
        return -np.inf
    if most < len(losses[0]):
        raise DlkitError(
            f"--max-ngrams {most} is less than the {len(losses[0])} tokens; give more, or a smaller"
            " --vocab-size"
        )
    higher = np.concatenate(losses[1:])
    place = total - most - 1  # the largest loss of those pruned
    return float(np.partition(higher, place)[place])


def back_off(trie: Trie, smoothed: Smoothed, kept: Sequence[np.ndarray]) -> None:
    """Change the probabilities and back-off weights to those without the pruned n-grams."""
    for level in range(1, trie.order):
        compiled_ngram.back_off_pruned(
            trie.first[level - 1],
            kept[level - 1],
            kept[level],
            smoothed.links[level],
            smoothed.probs[level - 1],
            smoothed.probs[level],
            smoothed.backoffs[level - 1],
        )


def compact(
    trie: Trie, smoothed: Smoothed, kept: Sequence[np.ndarray]
) -> tuple[Trie, list[np.ndarray], list[np.ndarray]]:
    """Remove pruned n-grams: returns the trie, probabilities and back-off weights of the others."""
    first = []
    for level, old in enumerate(trie.first):
        new = np.empty(int(kept[level].sum()) + 1, np.uint32)
        compiled_ngram.compact_first(old, kept[level], kept[level + 1], new)
        first.append(new)
    words = [words[keep] for words, keep in zip(trie.words, kept, strict=True)]
    probs = [probs[keep] for probs, keep in zip(smoothed.probs, kept, strict=True)]
    weights = [w[keep] for w, keep in zip(smoothed.backoffs, kept[:-1], strict=True)]
    return Trie(words, first, trie.line_end), probs, weights
