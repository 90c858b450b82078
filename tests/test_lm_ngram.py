"""n-gram models: counts, smoothing, pruning, files, and the command that trains them."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.lm_generate import counting, ngram, ngram_files, pruning, smoothing
from dlkit.lm_generate.arpa import write_arpa
from dlkit.lm_generate.compiled_ngram import pruning_losses
from dlkit.lm_generate.config import LmTrainConfig, by_arch
from dlkit.lm_generate.counting import Counts, count
from dlkit.lm_generate.ngram import NGram, Values
from dlkit.lm_generate.ngram_files import load
from dlkit.lm_generate.ngram_training import take_logs
from dlkit.lm_generate.train import train

END = 0  # the end of a line in the texts of ids below
TOKENS = 12
SMOOTHINGS = ["kneser-ney", "katz", "jelinek-mercer", "add-k", "likelihood"]


def text(seed: int = 0, lines: int = 80, longest: int = 9) -> np.ndarray:
    """Ids of random lines, some of them empty, of frequent and rare tokens; two never occur."""
    rng = np.random.default_rng(seed)
    ids = [END]
    for _ in range(lines):
        drawn = 1 + (TOKENS - 3) * rng.random(rng.integers(0, longest)) ** 2
        ids += [*drawn.astype(int), END]
    return np.array(ids, np.uint16)


def by_brute_force(ids: np.ndarray, order: int, line_end: int | None) -> Counter[tuple[int, ...]]:
    """How often each n-gram of 1 to `order` tokens occurs."""
    found: Counter[tuple[int, ...]] = Counter()
    for length, start in product(range(1, order + 1), range(len(ids))):
        gram = tuple(ids[start : start + length].tolist())
        if len(gram) == length and line_end not in gram[1:-1]:
            found[gram] += 1
    if line_end is not None and ids[0] == line_end:
        found[(line_end,)] -= 1
    return found


def as_dict(counts: Counts) -> dict[tuple[int, ...], int]:
    return {
        tuple(gram): int(times)
        for level, level_counts in enumerate(counts.counts)
        for gram, times in zip(
            counts.trie.ngrams(level, 0, len(level_counts)).tolist(), level_counts, strict=True
        )
        if times
    }


def smooth(counts: Counts, name: str, folder: Path, held_out: np.ndarray) -> smoothing.Smoothed:
    if name == "kneser-ney":
        return smoothing.kneser_ney(counts, [0] * counts.trie.order, folder)
    if name == "katz":
        return smoothing.katz(counts, folder)
    if name == "jelinek-mercer":
        return smoothing.jelinek_mercer(counts, held_out, folder)
    return smoothing.add_k(counts, 0.5 if name == "add-k" else 0.0, folder)


def model_of(
    ids: np.ndarray, order: int, name: str, folder: Path, line_end: int | None = END
) -> NGram:
    counts = count(ids, TOKENS, order, line_end, folder)
    smoothed = smooth(counts, name, folder, text(99))
    header = Header("lm-generate", "ngram", {"tokenizer": {}}, [])
    probs, weights = take_logs(smoothed.probs), take_logs(smoothed.backoffs)
    return NGram(header, counts.trie, probs, weights, name == "add-k")


def contexts(length: int) -> list[list[int]]:
    """All contexts of so many tokens at most."""
    return [list(c) for n in range(length + 1) for c in product(range(TOKENS), repeat=n)]


@pytest.mark.parametrize("line_end", [END, None])
@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_counts_are_those_of_brute_force(tmp_path: Path, order: int, line_end: int | None) -> None:
    ids = text(order)
    found = as_dict(count(ids, TOKENS, order, line_end, tmp_path))
    assert found == +by_brute_force(ids, order, line_end)


@pytest.mark.parametrize("line_end", [END, None])
def test_little_memory_makes_runs_that_merge_to_the_same(
    tmp_path: Path, line_end: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "BLOCK", 7)
    ids = text(5)
    memory = 30 * counting.BYTES_PER_TOKEN / 2**30
    runs = counting.sort_parts(ids, TOKENS, 4, line_end, tmp_path, memory)
    assert runs is not None
    assert len(runs.heads) > 3
    found = as_dict(count(ids, TOKENS, 4, line_end, tmp_path, runs))
    assert found == +by_brute_force(ids, 4, line_end)
    assert not (tmp_path / "runs").exists()


def test_a_trie_is_sorted_and_says_what_follows(tmp_path: Path) -> None:
    ids = text(3)
    trie = count(ids, TOKENS, 3, END, tmp_path).trie
    for level in range(3):
        grams = trie.ngrams(level, 0, len(trie.words[level])).tolist()
        assert grams == sorted(grams)
        assert [trie.walk(gram) for gram in grams] == list(range(len(grams)))
    assert trie.walk([11]) == 11  # which does not occur
    assert trie.walk([11, 1]) == ngram.ABSENT
    places = trie.locate(ids)
    for level, at in product(range(3), range(len(ids))):
        gram = ids[at - level : at + 1].tolist() if at >= level else []
        inside = len(gram) == level + 1 and END not in gram[1:-1]
        assert places[level][at] == (trie.walk(gram) if inside else ngram.ABSENT)


@pytest.mark.parametrize("name", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("line_end", [END, None])
def test_probabilities_sum_to_1(
    tmp_path: Path, name: str, order: int, line_end: int | None
) -> None:
    model = model_of(text(order), order, name, tmp_path, line_end)
    for context in contexts(2) + [text(7)[:at].tolist() for at in range(50)]:
        assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-5)


@pytest.mark.parametrize("name", SMOOTHINGS)
@pytest.mark.parametrize("at_once", [7, 1 << 18])
def test_scores_are_the_log_probabilities(
    tmp_path: Path, name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram, "CHUNK", at_once)
    model = model_of(text(1), 4, name, tmp_path)
    ids = text(2).tolist()
    one_by_one = [model.next_logprobs(ids[:at])[token] for at, token in enumerate(ids)]
    np.testing.assert_allclose(model.score(ids), one_by_one, rtol=1e-5)
    assert len(model.score([])) == 0


# A toy: the lines `a b a b` and `a b c`. The end of a line is 0, a 1, b 2, c 3; 4, d, is absent.
TOY = np.array([0, 1, 2, 1, 2, 0, 1, 2, 3, 0], np.uint16)


def toy(name: str, folder: Path, **options: Any) -> NGram:
    counts = count(TOY, 5, 2, END, folder)
    if name == "add-k":
        smoothed = smoothing.add_k(counts, options["k"], folder)
    elif name == "katz":
        smoothed = smoothing.katz(counts, folder)
    elif name == "jelinek-mercer":
        smoothed = smoothing.jelinek_mercer(counts, np.array(options["held_out"]), folder)
    else:
        smoothed = smoothing.kneser_ney(counts, [0, 0], folder)
    probs, weights = take_logs(smoothed.probs), take_logs(smoothed.backoffs)
    floors = options.get("k", 0) > 0
    return NGram(Header("lm-generate", "ngram", {}, []), counts.trie, probs, weights, floors)


def test_maximum_likelihood_and_add_k_of_a_toy(tmp_path: Path) -> None:
    likely = toy("add-k", tmp_path, k=0.0)
    # b is followed by a once, by c once, by the end once; a line begins with a both times.
    assert np.exp(likely.next_logprobs([0, 1, 2])) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3, 0])
    assert np.exp(likely.next_logprobs([0])) == pytest.approx([0, 1, 0, 0, 0])
    # Tokens by themselves: the end 2, a 3, b 3, c 1, of 9. d was never seen: no context is left.
    assert np.exp(likely.next_logprobs([])) == pytest.approx([2 / 9, 3 / 9, 3 / 9, 1 / 9, 0])
    assert np.exp(likely.next_logprobs([4])) == pytest.approx([2 / 9, 3 / 9, 3 / 9, 1 / 9, 0])
    assert likely.score([0, 1, 3])[2] == -np.inf
    added = toy("add-k", tmp_path, k=0.5)
    assert np.exp(added.next_logprobs([2])) == pytest.approx(
        np.array([1.5, 1.5, 0.5, 1.5, 0.5]) / 5.5
    )
    assert np.exp(added.next_logprobs([4])) == pytest.approx(
        np.array([2.5, 3.5, 3.5, 1.5, 0.5]) / 11.5
    )


def test_kneser_ney_of_a_toy_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = toy("kneser-ney", tmp_path)
    # Before the end stand b and c, before a the beginning and b, before b a, before c b: 6 in all.
    # There is no token with 3, so that the discounts are 1/2, 1 and 3/2.
    tokens = (np.array([2 - 1, 2 - 1, 1 - 0.5, 1 - 0.5, 0]) + 3 / 5) / 6
    assert np.exp(model.next_logprobs([])) == pytest.approx(tokens)
    assert "the discounts of order 1: they are 0.5, 1.0, 1.5" in capsys.readouterr().err
    # Of the bigrams, 4 occur once, 1 twice, 1 three times: Y is 4 / (4 + 2 * 1) = 2/3, D1 is
    # 1 - 2 * 2/3 * 1/4 = 2/3, D2 is 2 - 3 * 2/3 * 1/1 = 0, and D3 is 3 - 4 * 2/3 * 0/1 = 3.
    # After b: the end, a and c, once each. After a: b, three times. Before a: the beginning, twice.
    after_b = (np.array([1, 1, 0, 1, 0]) / 3 + 2 * tokens) / 3
    assert np.exp(model.next_logprobs([2])) == pytest.approx(after_b)
    assert np.exp(model.next_logprobs([1])) == pytest.approx(tokens)
    assert np.exp(model.next_logprobs([0])) == pytest.approx([0, 1, 0, 0, 0], abs=1e-30)


def test_katz_of_a_toy_by_hand(tmp_path: Path) -> None:
    model = toy("katz", tmp_path)
    # One token occurs once, one twice, two three times: r* / r is 2 for 1 and 3 for 2, no shares of
    # anything; the total counts one more for d.
    tokens = np.array([2, 3, 3, 1, 1]) / 10
    assert np.exp(model.next_logprobs([])) == pytest.approx(tokens)
    # Of the bigrams, 3 occur once (b with the end, a, c; and c with the end: 4), 1 twice, 1 three
    # times: d(1) = 2 * 1 / 4 = 1/2, and d(2) = 3 * 1 / (1 * 2) is none.
    after_b = np.array([1 / 6, 1 / 6, 0, 1 / 6, 0])
    rest = np.array([0, 0, 3, 0, 1]) / 4  # of what was not seen, b 3/10 and d 1/10
    assert np.exp(model.next_logprobs([2])) == pytest.approx(after_b + rest / 2)
    # a is followed by b three times, which is kept: one more is counted.
    after_a = np.array([2, 3, 0, 1, 1]) / 7 / 4
    after_a[2] = 3 / 4
    assert np.exp(model.next_logprobs([1])) == pytest.approx(after_a)


def test_jelinek_mercer_of_a_toy_by_hand(tmp_path: Path) -> None:
    # Held out: b and a after each other. The best weights can be found by trying.
    held_out = [2, 1, 2, 1, 2, 3]
    model = toy("jelinek-mercer", tmp_path, held_out=held_out)
    tries = np.linspace(0, 1, 100_001)[:-1]
    seen = np.array([3, 3, 3, 3, 3, 1]) / 9
    weight = tries[np.log(tries[:, None] * seen + (1 - tries[:, None]) / 5).sum(1).argmax()]
    tokens = weight * np.array([2, 3, 3, 1, 0]) / 9 + (1 - weight) / 5
    assert np.exp(model.next_logprobs([])) == pytest.approx(tokens, abs=1e-4)
    # a and b both occur three times as contexts, so that they share a weight.
    higher = np.array([1 / 3, 1, 1 / 3, 1, 1 / 3])
    low = tokens[held_out[1:]]
    likelihoods = np.log(tries[:, None] * higher + (1 - tries[:, None]) * low).sum(1)
    shared = tries[likelihoods.argmax()]
    after_b = shared * np.array([1, 1, 0, 1, 0]) / 3 + (1 - shared) * tokens
    assert np.exp(model.next_logprobs([2])) == pytest.approx(after_b, abs=1e-3)


class KneserNey:
    """Modified Kneser-Ney word for word as Chen & Goodman (1998) and Heafield et al. (2013) say it.

    With dictionaries, for lines of tokens; <s> begins a line and is not predicted.
    """

    def __init__(self, lines: Sequence[Sequence[str]], order: int) -> None:
        self.order = order
        raw: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order + 2)]
        for line in lines:
            words = ["<s>", *line, "</s>"]
            for n, start in product(range(1, order + 1), range(len(words))):
                if start + n <= len(words):
                    raw[n][tuple(words[start : start + n])] += 1
        self.counts: list[dict[tuple[str, ...], int]] = [{}]
        for n in range(1, order + 1):
            lefts = Counter(longer[1:] for longer in raw[n + 1])  # each different one counts 1
            self.counts.append(
                {
                    gram: times if n == order or gram[0] == "<s>" else lefts[gram]
                    for gram, times in raw[n].items()
                    if gram != ("<s>",)
                }
            )
        self.size = len(self.counts[1]) + 1  # with <unk>
        self.discounts = [self.discounts_of(counts) for counts in self.counts]
        self.following: dict[tuple[str, ...], list[int]] = {}
        for counts in self.counts:
            for gram, times in counts.items():
                self.following.setdefault(gram[:-1], []).append(times)

    @staticmethod
    def discounts_of(counts: dict[tuple[str, ...], int]) -> list[float]:
        n = Counter(counts.values())
        if not (n[1] and n[2] and n[3]):
            return [0, 0.5, 1, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        return [0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))]

    def p(self, word: str, context: tuple[str, ...]) -> float:
        n = len(context) + 1
        lower = self.p(word, context[1:]) if context else 1 / self.size
        times = self.following.get(context)
        if not times:
            return lower
        d = self.discounts[n]
        left = sum(d[min(t, 3)] for t in times)
        own = self.counts[n].get((*context, word), 0)
        return (own - d[min(own, 3)] + left * lower) / sum(times)


def lines_of_the_license() -> list[list[str]]:
    license_ = Path(__file__).parent.parent / "LICENSE"
    return [line.split() for line in license_.read_text().splitlines() if line.strip()]


def model_of_lines(
    lines: Sequence[Sequence[str]], order: int, folder: Path, thresholds: Sequence[int] = (0,)
) -> tuple[NGram, dict[str, int]]:
    """A Kneser-Ney model, and the ids of words; `</s>` is 0, `<unk>` 1."""
    numbers = {"</s>": 0, "<unk>": 1}
    for line in lines:
        for word in line:
            numbers.setdefault(word, len(numbers))
    ids = [0] + [numbers[word] for line in lines for word in [*line, "</s>"]]
    counts = count(np.array(ids), len(numbers), order, 0, folder)
    levels = [*thresholds, *[thresholds[-1]] * order][:order]
    smoothed = smoothing.kneser_ney(counts, levels, folder)
    trie, probs, weights = pruning.compact(
        counts.trie, smoothed, pruning.select_frequent(counts, levels)
    )
    header = Header("lm-generate", "ngram", {}, [])
    return NGram(header, trie, take_logs(probs), take_logs(weights)), numbers


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_kneser_ney_is_that_of_the_papers(tmp_path: Path, order: int) -> None:
    lines = lines_of_the_license()
    reference = KneserNey(lines[:150], order)
    model, numbers = model_of_lines(lines[:150], order, tmp_path)
    for line in [*lines[:20], *lines[150:]]:
        known = [word if word in numbers else "<unk>" for word in line]
        ids = [0, *(numbers[word] for word in known), 0]
        words = ["<s>", *known, "</s>"]
        expected = [
            math.log(reference.p(words[at], tuple(words[max(at - order + 1, 0) : at])))
            for at in range(1, len(words))
        ]
        assert model.score(ids)[1:] == pytest.approx(expected, rel=1e-5)


# What lmplz of KenLM 0.3.0 writes for the license: `lmplz -o 3 --text lines`.
LMPLZ = """\
-3.1486375	<unk>	0
-1.0420718	</s>	0
-1.5415158	the	-0.30295488
-3.0451722	To	-0.060873378
-0.5750476	and </s>	0
-1.1796303	<s> the	-0.08814492
-0.5440403	of the	-0.12749214
-0.97307765	the Work	-0.17374259
-1.3111223	permissions under	-0.056659758
-0.5856887	Your exercise of
-1.106819	on Your sole
-0.7399013	of purpose be
"""


def test_kneser_ney_is_that_of_lmplz(tmp_path: Path) -> None:
    model, numbers = model_of_lines(lines_of_the_license(), 3, tmp_path)
    assert [len(words) for words in model.trie.words] == [595, 1322, 1424]  # it also counts <s>
    for line in LMPLZ.splitlines():
        logprob, gram, *weight = line.split("\t")
        ids = [numbers["</s>" if word == "<s>" else word] for word in gram.split()]
        level, node = len(ids) - 1, model.trie.walk(ids)
        assert model.logprobs[level][node] / math.log(10) == pytest.approx(float(logprob), abs=1e-6)
        # </s>, which begins no n-gram there, has the weight of <s> here.
        if weight and gram != "</s>":
            found = model.backoffs[level][node] / math.log(10)
            assert found == pytest.approx(float(weight[0]), abs=1e-6)


def test_n_grams_that_are_rare_are_left_out(tmp_path: Path) -> None:
    ids = text(4, lines=300)
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
    for context in contexts(2):
        assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-5)


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer"])
def test_the_n_grams_that_matter_most_are_kept(tmp_path: Path, name: str) -> None:
    ids = text(4, lines=300)
    counts = count(ids, TOKENS, 3, END, tmp_path)
    whole = model_of(ids, 3, name, tmp_path).score(ids)
    differences = {}
    for most in (50, 120):
        smoothed = smooth(counts, name, tmp_path, text(99))
        kept = pruning.select_important(counts, smoothed, most, tmp_path)
        pruning.back_off(counts.trie, smoothed, kept)
        trie, probs, weights = pruning.compact(counts.trie, smoothed, kept)
        assert most - 10 < sum(map(len, trie.words)) <= most
        header = Header("lm-generate", "ngram", {}, [])
        model = NGram(header, trie, take_logs(probs), take_logs(weights))
        for context in contexts(2):
            assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-4)
        differences[most] = np.abs(model.score(ids) - whole).mean()
    assert differences[120] < differences[50]


def test_what_is_lost_without_an_n_gram_is_the_relative_entropy(tmp_path: Path) -> None:
    counts = count(text(4, lines=300), TOKENS, 2, END, tmp_path)
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
def test_counts_that_cannot_be_left_out(setting: str) -> None:
    with pytest.raises(DlkitError, match="--prune"):
        pruning.parse_thresholds(setting, 3)


def test_bytes_stand_for_numbers_near_them() -> None:
    rng = np.random.default_rng(0)
    numbers = np.append(rng.normal(size=5000), [0] * 50 + [-np.inf] * 3).astype(np.float32)
    values = Values(*ngram_files.quantize(numbers))
    assert values.stored.dtype == np.uint8
    finite = np.isfinite(numbers)
    assert np.abs(values[:][finite] - numbers[finite]).mean() < 0.01
    assert (values[:][numbers == 0] == 0).all()
    assert np.isneginf(values[:][~finite]).all()
    few = rng.choice(numbers, 200)
    assert np.array_equal(Values(*ngram_files.quantize(few))[:], few)


def test_places_of_children_as_bits() -> None:
    first = np.array([0, 0, 3, 4, 4, 9], np.uint32)
    bits = ngram_files.pack_children(first)
    assert len(bits) == 2  # of 5 n-grams and 9 children
    assert np.array_equal(ngram_files.unpack_children(bits, 5), first)


PLAY = "to be or not to be\nthat is the question\nto die to sleep\nno more\n"


def trained(tmp_path: Path, content: str = PLAY * 20, **settings: Any) -> Path:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(content)
    options: dict[str, Any] = {"tokenizer": "words", "order": 3, **settings}
    config = LmTrainConfig(data=[str(corpus)], out=tmp_path / "run", arch="ngram", **options)
    return train(config)


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer", "add-k"])
@pytest.mark.parametrize("quantize", [False, True])
def test_a_model_comes_back_from_its_file(tmp_path: Path, name: str, quantize: bool) -> None:
    path = trained(tmp_path, smoothing=name, quantize=quantize)
    model = load(path)
    assert model.order == 3
    encoded = model.codec.encode("to be or not to sleep")
    assert model.codec.begin is not None
    ids = [model.codec.begin, *encoded]
    again = load(path)
    assert np.array_equal(model.score(ids), again.score(ids))
    assert math.isclose(np.exp(model.next_logprobs(ids)).sum(), 1, abs_tol=1e-4)
    assert model.header.settings["smoothing"] == name
    record = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert record["perplexity"] == model.header.metrics["perplexity"]
    assert record["ngrams"] == [len(words) for words in model.trie.words]
    # The next word is the one that always follows.
    following = model.next_logprobs(model.codec.encode("that is the"))
    assert model.tokenizer.names[int(following.argmax())] == "question"
    assert not (tmp_path / "run" / "counting").exists()


def test_the_perplexity_of_digits_by_chance_is_10(tmp_path: Path) -> None:
    digits = "".join(map(str, np.random.default_rng(0).integers(10, size=30_000)))
    model = load(trained(tmp_path, digits, tokenizer="char", order=1))
    assert model.header.metrics["perplexity"] == pytest.approx(10, rel=0.005)


def test_a_run_is_not_overwritten_but_its_model_is_there(tmp_path: Path) -> None:
    path = trained(tmp_path)
    with pytest.raises(DlkitError, match="holds a run already"):
        trained(tmp_path)
    assert trained(tmp_path, resume=True) == path


def test_a_killed_run_is_begun_again(tmp_path: Path) -> None:
    content = trained(tmp_path).read_bytes()
    run = tmp_path / "run"
    (run / "best.safetensors").unlink()
    (run / "counting").mkdir()
    (run / "counting" / "words-0").write_bytes(b"half")
    again = trained(tmp_path, resume=True)
    assert not (run / "counting").exists()
    model = load(again)
    assert len(content) - 100 < again.stat().st_size < len(content) + 100
    assert math.isclose(np.exp(model.next_logprobs([])).sum(), 1, abs_tol=1e-5)


def test_likelihood_holds_what_is_new_impossible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = PLAY * 20 + "question the question\n" * 5
    model = load(trained(tmp_path, content, smoothing="add-k", add_k=0.0))
    assert "perplexity inf" in capsys.readouterr().err
    assert model.header.metrics == {}


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_no_text_makes_none(tmp_path: Path, content: str) -> None:
    with pytest.raises(DlkitError, match="text|corpus"):
        trained(tmp_path, content)


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer", "add-k"])
@pytest.mark.parametrize("content", ["a " * 50, "a b c\n" * 9, "a\n\n\n\n\n\n\n\n\n\n\n\nb"])
@pytest.mark.parametrize("tokenizer", ["whitespace", "char"])
def test_hardly_any_text_makes_a_model(
    tmp_path: Path, name: str, content: str, tokenizer: str
) -> None:
    path = trained(tmp_path, content, tokenizer=tokenizer, smoothing=name, order=3, val_share=0.4)
    model = load(path)
    for context in ([], [0], [1], [0, 1], [1, 1, 1]):
        assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-5)


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"add_k": 0.5}, "--add-k is for --smoothing add-k"),
        ({"smoothing": "add-k", "prune": "0 1"}, "--prune and --max-ngrams need"),
        ({"smoothing": "add-k", "arpa": True}, "--arpa needs a model that backs off"),
        ({"width": 64}, "--width is for"),
        ({"smoothing": "jelinek-mercer", "val_share": 0.0}, "--val-share"),
    ]
    for settings, message in refused:
        with pytest.raises(DlkitError, match=message):
            trained(tmp_path, **settings)
    with pytest.raises(DlkitError, match="--order is for ngram"):
        by_arch(LmTrainConfig(data=[], order=3))


def test_a_damaged_model_is_told(tmp_path: Path) -> None:
    path = trained(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DlkitError, match="its checksum is wrong"):
        load(path)


def test_n_gram_models_load_no_torch(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(PLAY * 20)
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from dlkit.lm_generate.config import LmTrainConfig\n"
        "from dlkit.lm_generate.train import train\n"
        "from dlkit.lm_generate.ngram_files import load\n"
        f"config = LmTrainConfig(data=[{str(corpus)!r}], out=Path({str(tmp_path / 'run')!r}),"
        " arch='ngram', order=2, arpa=True)\n"
        "path = train(config)\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    query = (
        "import sys\nfrom pathlib import Path\nfrom dlkit.lm_generate.ngram_files import load\n"
        f"load(Path({str(tmp_path / 'run' / 'best.safetensors')!r})).score([1, 2])\n"
        "assert not {'torch', 'numba'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", query], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer"])
def test_a_model_comes_back_from_an_arpa_file(tmp_path: Path, name: str) -> None:
    model = load(trained(tmp_path, smoothing=name, tokenizer="whitespace", arpa=True))
    read = load(tmp_path / "run" / "best.arpa")
    assert [len(words) for words in read.trie.words] == [len(words) for words in model.trie.words]
    for line in ["to be or not to sleep", "no question", "to whom it may concern"]:
        ours = model.score(model.codec.encode(f"\n{line}\n"))
        theirs = read.score(read.codec.encode(f"\n{line}\n"))
        assert ours[1:] == pytest.approx(theirs[1:], abs=2e-6)


def test_kenlm_reads_our_arpa_files(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    lines = lines_of_the_license()
    model, numbers = model_of_lines(lines, 4, tmp_path)
    model.header.settings["tokenizer"] = tokenizer_of(numbers)
    write_arpa(tmp_path / "license.arpa", model)
    peer = kenlm.LanguageModel(str(tmp_path / "license.arpa"))
    assert peer.order == 4
    for line in [*lines[:40], ["no", "such", "thing", "License"]]:
        ids = [0, *(numbers.get(word, 1) for word in line), 0]
        expected = [logprob for logprob, *_ in peer.full_scores(" ".join(line))]
        assert model.score(ids)[1:] / math.log(10) == pytest.approx(expected, abs=2e-6)


def tokenizer_of(numbers: dict[str, int]) -> dict[str, Any]:
    """The settings of a tokenizer with these words."""
    header = {"task": "tokenize", "arch": "whitespace", "labels": []}
    settings = {"normalize": [], "split": "whitespace", "unk": "<unk>"}
    special = {"</s>": 0, "<unk>": 1}
    vocab = {word: number for word, number in numbers.items() if word not in special}
    return {"header": {**header, "settings": settings}, "special": special, "vocab": vocab}


def test_white_space_in_tokens_is_written_out(tmp_path: Path) -> None:
    trained(tmp_path, "a b\nb a\n" * 30, tokenizer="char", order=2, arpa=True)
    content = (tmp_path / "run" / "best.arpa").read_text()
    lines = [line.split("\t")[1] for line in content.splitlines() if "\t" in line]
    assert {"a", "b", "\\u0020", "\\u000a", "a \\u0020"} <= set(lines)
    assert not {"<s>", "</s>"} & set(lines)  # lines go on into each other


ARPA = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.5\t</s>
-0.3\tthe\t-0.2

\\2-grams:
-0.1\t<s> the
-0.4 the </s>

\\end\\
"""


def test_an_arpa_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "small.arpa"
    path.write_text(ARPA)
    model = load(path)
    codec = model.codec
    assert codec.line_end == codec.tokenizer.special["</s>"]
    ids = [codec.line_end, *codec.encode("the the unseen\n")]
    expected = [-0.1, -0.2 - 0.3, -0.2 - 1.0, -0.5]  # the last one after <unk>
    assert model.score(ids)[1:] / math.log(10) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data\n" * 1000, "no ARPA file"),
        ("ngram 2=2", "ngram 3=2", "line 4: 'ngram 3=2'"),
        ("ngram 2=2", "ngram 2=3", "line 15: '' is no 2-gram"),
        ("-0.1\t<s> the", "-0.1\t<s>", "line 13: '-0.1\\\\t<s>' is no 2-gram"),
        ("-0.3\tthe", "x\tthe", "line 10: .* is no 1-gram"),
        ("<s> the", "<s> other", "'other', up to this line, is none"),
        ("\\2-grams:", "\\3-grams:", "not ..-grams:"),
        ("\\end\\", "", "ends too early"),
    ],
)
def test_a_damaged_arpa_file_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "damaged.arpa"
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(DlkitError, match=message):
        load(path)


def test_the_bundled_model_knows_english() -> None:
    path = find("lm-generate", "english-ngram")
    assert path.stat().st_size < 8_000_000
    model = load(path)
    begin = model.codec.begin
    assert begin is not None

    def likely(sentence: str) -> float:
        return float(model.score([begin, *model.codec.encode(sentence)])[1:].sum())

    assert likely("The city was founded in the 19th century.") > likely(
        "Century 19th the in founded was city the."
    )
    start = [begin, *model.codec.encode("the United States of")]
    assert model.tokenizer.names[int(model.next_logprobs(start).argmax())] == "ĠAmerica"
    assert math.isclose(
        np.exp(model.next_logprobs(start)).sum(), 1, abs_tol=0.01
    )  # numbers are rough
