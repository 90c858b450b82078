"""Pruning of n-grams."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate import pruning, smoothing
from dlkit.lm_generate.compiled_ngram import pruning_losses
from dlkit.lm_generate.counting import count
from dlkit.lm_generate.ngram import NGram
from dlkit.lm_generate.ngram_training import take_logs
from tests.lm_generate.helpers import (
    END,
    TOKENS,
    all_contexts,
    as_dict,
    ngram_model,
    random_ids,
    smooth,
)


def test_rare_n_grams_are_pruned(tmp_path: Path) -> None:
    ids = random_ids(4, lines=300)
    counts = count(ids, TOKENS, 3, END, tmp_path)
    levels = pruning.parse_thresholds("0 1", 3)
    assert levels == [0, 1, 1]
    smoothed = smoothing.kneser_ney(counts, levels, tmp_path)
    kept = pruning.select_frequent(counts, levels)
    trie, probs, weights = pruning.compact(counts.trie, smoothed, kept)
    left = {tuple(g) for n in range(3) for g in trie.ngrams(n, 0, len(trie.words[n])).tolist()}
    often = {gram for gram, times in as_dict(counts).items() if times > 1}
    assert left == often | {(token,) for token in range(TOKENS)}
    assert 100 < len(left) < len(as_dict(counts))
    model = NGram(
        Header("lm-generate", "ngram", {}, []), trie, take_logs(probs), take_logs(weights)
    )
    for context in all_contexts(2):
        assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-5)


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer"])
def test_the_n_grams_that_matter_most_are_kept(tmp_path: Path, name: str) -> None:
    ids = random_ids(4, lines=300)
    counts = count(ids, TOKENS, 3, END, tmp_path)
    whole = ngram_model(ids, 3, name, tmp_path).score(ids)
    differences = {}
    for most in (50, 120):
        smoothed = smooth(counts, name, tmp_path, random_ids(99))
        kept = pruning.select_important(counts, smoothed, most, tmp_path)
        pruning.back_off(counts.trie, smoothed, kept)
        trie, probs, weights = pruning.compact(counts.trie, smoothed, kept)
        assert most - 10 < sum(map(len, trie.words)) <= most
        header = Header("lm-generate", "ngram", {}, [])
        model = NGram(header, trie, take_logs(probs), take_logs(weights))
        for context in all_contexts(2):
            assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-4)
        differences[most] = np.abs(model.score(ids) - whole).mean()
    assert differences[120] < differences[50]


def test_the_pruning_loss_is_the_relative_entropy(tmp_path: Path) -> None:
    counts = count(random_ids(4, lines=300), TOKENS, 2, END, tmp_path)
    smoothed = smoothing.katz(counts, tmp_path)
    whole = [array.astype(np.float64) for array in smoothed.probs]
    trie, total = counts.trie, counts.counts[1].astype(np.float64)
    header = Header("lm-generate", "ngram", {}, [])

    def table(probs: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
        model = NGram(header, trie, take_logs(probs), take_logs(weights))
        return np.array([model.next_logprobs([i]) for i in range(TOKENS)], np.float64)

    before = table([p.copy() for p in smoothed.probs], [w.copy() for w in smoothed.backoffs])
    losses = np.zeros(len(whole[1]), np.float32)
    links, (lower, probs) = smoothed.links[1], smoothed.probs
    pruning_losses(trie.first[0], counts.counts[1], links, lower, probs, losses)
    context, token = trie.ngrams(1, 0, len(losses))[7]
    kept = [np.ones(TOKENS, bool), np.arange(len(losses)) != 7]
    pruning.back_off(trie, smoothed, kept)
    after = table(smoothed.probs, smoothed.backoffs)
    assert after[context, token] != pytest.approx(before[context, token])
    times = total[trie.children(0, context)].sum()
    entropy = times * (np.exp(before[context]) * (before[context] - after[context])).sum()
    assert losses[7] == pytest.approx(entropy, rel=1e-3)


@pytest.mark.parametrize("setting", ["1", "0 2 1", "0 0 0 0", "x", "0 -1"])
def test_invalid_pruning_thresholds(setting: str) -> None:
    with pytest.raises(DlkitError, match="--prune"):
        pruning.parse_thresholds(setting, 3)
