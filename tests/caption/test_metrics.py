"""BLEU, ROUGE-L and CIDEr, against worked examples and the COCO evaluation."""

import itertools
import math
import random

import numpy as np
import pytest

from dlkit.caption.meteor import meteor
from dlkit.caption.metrics import (
    DEFINITIONS,
    bleu,
    caption_metrics,
    cider,
    cider_d,
    longest_common,
    rouge_l,
)
from dlkit.caption.ptb_tokenize import words

TEXT = (
    "a a a the the two dog dogs man men woman child children boy running runs run red blue shirt"
    " grass beach water ball on in with of and plays playing jumps jumping over"
)
VOCABULARY = TEXT.split()


def random_captions(images: int, seed: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Captions and one to five references of each."""
    chosen = random.Random(seed)

    def caption() -> list[str]:
        return chosen.choices(VOCABULARY, k=chosen.randint(1, 12))

    references = [[caption() for _ in range(chosen.randint(1, 5))] for _ in range(images)]
    captions = [
        [word if chosen.random() < 0.6 else chosen.choice(VOCABULARY) for word in known[0]]
        for known in references
    ]
    return captions, references


def test_bleu_of_papinenis_example() -> None:
    caption = [["the"] * 7]
    known = [[words("the cat is on the mat"), words("there is a cat on the mat")]]
    assert bleu(caption, known)[0] == pytest.approx(2 / 7)


def test_bleu_by_hand() -> None:
    """3 of 4 words, 2 of 3 pairs, and a reference of 5 words: exp(1 - 5 / 4) for brevity."""
    caption, known = [["a", "dog", "runs", "fast"]], [[["a", "dog", "runs", "very", "quickly"]]]
    brevity = math.exp(1 - 5 / 4)
    one, two, three, _ = bleu(caption, known)
    assert one == pytest.approx(3 / 4 * brevity)
    assert two == pytest.approx(math.sqrt(3 / 4 * 2 / 3) * brevity)
    assert three == pytest.approx((3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3) * brevity)


def test_bleu_takes_the_closest_reference_and_of_two_the_shorter() -> None:
    caption = [["a", "b", "c", "d"]]
    assert bleu(caption, [[["a", "b", "c"], list("abcde")]])[0] == pytest.approx(1)
    assert bleu(caption, [[["a"], list("abcde")]])[0] == pytest.approx(math.exp(-1 / 4))


def test_rouge_l_by_hand() -> None:
    """The best precision and the best recall may be those of different references."""
    caption = [["a", "dog", "runs", "here"]]
    known = [[["a", "dog", "sleeps"], words("a big dog runs over here now")]]
    precision, recall = 4 / 4, 2 / 3
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l(caption, known)[0] == pytest.approx(expected)
    assert rouge_l([["x"]], known)[0] == 0
    assert rouge_l([[]], known)[0] == 0


def test_the_longest_common_subsequence_is_that_of_an_exhaustive_search() -> None:
    chosen = random.Random(3)
    for _ in range(40):
        first, second = (chosen.choices("abc", k=chosen.randint(0, 7)) for _ in range(2))
        subsequences = {
            tuple(itertools.compress(first, kept))
            for kept in itertools.product([0, 1], repeat=len(first))
        }
        common = {
            tuple(itertools.compress(second, kept))
            for kept in itertools.product([0, 1], repeat=len(second))
        } & subsequences
        assert longest_common(first, second) == max(map(len, common))


def test_cider_by_hand() -> None:
    """Of two images, an n-gram in one has the weight log 2, one in both has none."""
    known = [[["a", "dog"]], [["a", "cat"]]]
    # One word in two has weight, and is right: cosine 1. Neither n-grams of 3 nor of 4.
    assert cider([["a", "dog"], ["a", "dog"]], known) == pytest.approx([10 * 2 / 4, 0])
    assert cider_d([["a", "dog"], ["a", "cat"]], known) == pytest.approx([5, 5])
    # `dog` twice: 2 log 2 against log 2; the pairs `a dog` and `dog dog` against one of them.
    twice = [["a", "dog", "dog"], ["a", "cat"]]
    # Without clipping a cosine says nothing of how often; `dog dog` is in no reference.
    assert cider(twice, known)[0] == pytest.approx(10 * (1 + 1 / math.sqrt(2)) / 4)
    # CIDEr-D counts one of the two, divides by both lengths, and by exp(1 / 72) for the length.
    expected = 10 * (1 / 2 + 1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert cider_d(twice, known)[0] == pytest.approx(expected)


def test_cider_knows_no_rarity_in_one_image_alone() -> None:
    assert cider_d([["a", "dog"]], [[["a", "dog"]]]) == pytest.approx([0])


def test_bleu_rouge_and_cider_are_those_of_the_coco_evaluation() -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    captions, references = random_captions(60, seed=1)
    truth = {i: [" ".join(r) for r in known] for i, known in enumerate(references)}
    found = {i: [" ".join(caption)] for i, caption in enumerate(captions)}
    theirs, _ = Bleu(4).compute_score(truth, found, verbose=0)
    assert bleu(captions, references) == pytest.approx(theirs, abs=1e-9)
    _, each = Rouge().compute_score(truth, found)
    assert rouge_l(captions, references) == pytest.approx(each, abs=1e-9)
    _, each = Cider().compute_score(truth, found)
    assert cider_d(captions, references) == pytest.approx(each, abs=1e-9)


# What pycocoevalcap 1.2 says of `random_captions(60, seed=1)`.
COCO = {
    "bleu_1": 0.76612903,
    "bleu_2": 0.57147796,
    "bleu_3": 0.4436864,
    "bleu_4": 0.33885244,
    "rouge_l": 0.68460685,
    "cider_d": 1.5957977,
}


def test_the_summary_holds_every_metric_and_its_definition() -> None:
    captions, references = random_captions(60, seed=1)
    scores = caption_metrics(
        [" ".join(caption) + " ." for caption in captions],
        [[" ".join(reference).capitalize() for reference in known] for known in references],
    )
    assert scores.keys() == DEFINITIONS.keys()
    for name, value in COCO.items():
        assert scores[name] == pytest.approx(value, abs=1e-6)
    assert scores["meteor_exact_stem"] == pytest.approx(meteor(captions, references))
    assert scores["cider"] == pytest.approx(np.mean(cider(captions, references)))


def test_a_perfect_caption_scores_the_highest() -> None:
    _, references = random_captions(20, seed=2)
    texts = [[" ".join(reference) for reference in known] for known in references]
    scores = caption_metrics([known[0] for known in texts], texts)
    for name in ("bleu_1", "meteor_exact_stem", "rouge_l"):
        assert scores[name] == pytest.approx(1)
    assert scores["cider_d"] < 10
