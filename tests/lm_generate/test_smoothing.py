"""Smoothing, by hand and against other implementations."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate import smoothing
from dlkit.lm_generate.counting import count
from dlkit.lm_generate.ngram import NGram
from dlkit.lm_generate.ngram_training import take_logs
from tests.lm_generate.helpers import END, kneser_ney_model, license_lines

# A toy: the lines `a b a b` and `a b c`. The end of a line is 0, a 1, b 2, c 3; 4, d, is absent.
TOY = np.array([0, 1, 2, 1, 2, 0, 1, 2, 3, 0], np.uint16)


def toy_model(name: str, folder: Path, **options: Any) -> NGram:
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
    likely = toy_model("add-k", tmp_path, k=0.0)
    # b is followed by a once, by c once, by the end once; a line begins with a both times.
    assert np.exp(likely.next_logprobs([0, 1, 2])) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3, 0])
    assert np.exp(likely.next_logprobs([0])) == pytest.approx([0, 1, 0, 0, 0])
    # Tokens by themselves: the end 2, a 3, b 3, c 1, of 9. d was never seen: no context is left.
    assert np.exp(likely.next_logprobs([])) == pytest.approx([2 / 9, 3 / 9, 3 / 9, 1 / 9, 0])
    assert np.exp(likely.next_logprobs([4])) == pytest.approx([2 / 9, 3 / 9, 3 / 9, 1 / 9, 0])
    assert likely.score([0, 1, 3])[2] == -np.inf
    added = toy_model("add-k", tmp_path, k=0.5)
    assert np.exp(added.next_logprobs([2])) == pytest.approx(
        np.array([1.5, 1.5, 0.5, 1.5, 0.5]) / 5.5
    )
    assert np.exp(added.next_logprobs([4])) == pytest.approx(
        np.array([2.5, 3.5, 3.5, 1.5, 0.5]) / 11.5
    )


def test_kneser_ney_of_a_toy_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = toy_model("kneser-ney", tmp_path)
    # The end follows b and c, a follows the beginning and b, b follows a, c follows b: 6 in all.
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
    model = toy_model("katz", tmp_path)
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
    model = toy_model("jelinek-mercer", tmp_path, held_out=held_out)
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
    """Modified Kneser-Ney by the equations of Chen & Goodman (1998) and Heafield et al. (2013).

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


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_kneser_ney_is_that_of_the_papers(tmp_path: Path, order: int) -> None:
    lines = license_lines()
    reference = KneserNey(lines[:150], order)
    model, numbers = kneser_ney_model(lines[:150], order, tmp_path)
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
    model, numbers = kneser_ney_model(license_lines(), 3, tmp_path)
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
