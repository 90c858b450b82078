"""The metrics of captions, against worked examples and the programs that define them."""

import itertools
import math
import random

import numpy as np
import pytest

from dlkit.caption.meteor import Statistics, align_words, meteor
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
from dlkit.caption.stemming import stem

TEXT = (
    "a a a the the two dog dogs man men woman child children boy running runs run red blue shirt"
    " grass beach water ball on in with of and plays playing jumps jumping over"
)
VOCABULARY = TEXT.split()


def drawn(images: int, seed: int) -> tuple[list[list[str]], list[list[list[str]]]]:
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


# ---- words ---------------------------------------------------------------------------------------


# As Stanford's PTBTokenizer 3.4.1 cuts them, less the punctuation of the COCO evaluation.
@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A Dog runs , a cat watches .", "a dog runs a cat watches"),
        ("I don't think it's the dog's ball; they're \"here\"...",
         "i do n't think it 's the dog 's ball they 're here"),
        ("The man can't swim, and he cannot run. He's gonna try.",
         "the man ca n't swim and he can not run he 's gon na try"),
        ("Mr. Smith stands near St. Mary's church in the U.S. today.",
         "mr. smith stands near st. mary 's church in the u.s. today"),
        ('A 12-year-old boy holds a sign: "50% off -- $3.50 (or $1,000)!"',
         "a 12-year-old boy holds a sign 50 % off $ 3.50 or $ 1,000"),
        ("The boys' shirts are red and/or blue.", "the boys shirts are red and/or blue"),
        ("AT&T and rock & roll @ home", "at&t and rock & roll @ home"),
        ("A t-shirt , a 4x4 and a # 7 jersey", "a t-shirt a 4x4 and a # 7 jersey"),
        ("A slip 'n' slide at five o'clock in the '90s",
         "a slip 'n' slide at five o'clock in the '90s"),
        ("A café in München", "a café in münchen"),
        (" ", ""),
    ],
)  # fmt: skip
def test_captions_are_cut_as_the_coco_evaluation_cuts_them(caption: str, expected: str) -> None:
    assert " ".join(words(caption)) == expected


# From the vocabulary that Snowball publishes with its English stemmer.
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("running", "run"), ("jumped", "jump"), ("ponies", "poni"), ("skies", "sky"),
        ("dying", "die"), ("hoping", "hope"), ("hopping", "hop"), ("happily", "happili"),
        ("relational", "relat"), ("conditional", "condit"), ("rocky", "rocki"), ("cries", "cri"),
        ("ties", "tie"), ("gas", "gas"), ("gaps", "gap"), ("inning", "inning"), ("dyed", "dy"),
        ("agreed", "agre"), ("succeeding", "succeed"), ("generously", "generous"), ("by", "by"),
        ("vietnamization", "vietnam"), ("controlling", "control"), ("playing", "play"),
        ("yellow", "yellow"), ("dog's", "dog"), ("communities", "communiti"),
    ],
)  # fmt: skip
def test_stems_are_those_of_snowball(word: str, expected: str) -> None:
    assert stem(word) == expected


# ---- BLEU, ROUGE-L -------------------------------------------------------------------------------


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


# ---- CIDEr ---------------------------------------------------------------------------------------


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


# ---- METEOR --------------------------------------------------------------------------------------


# By meteor-1.5.jar -l en -m "exact stem" -w "1.0 0.6" -p "0.85 0.2 0.6 0.5".
METEOR = [
    ("a dog runs on the beach", ["a dog runs on the beach"], 1.0),
    (
        "a dog is running on the beach",
        ["a dog runs along the beach", "the brown dog plays in the water"],
        0.3427723502447287,
    ),
    (
        "two men in red shirts play soccer",
        ["two men are playing soccer in red shirts", "soccer players run"],
        0.4149402950085763,
    ),
    (
        "a man and a woman and a child",
        ["a child and a man", "a woman and a man and a child walk"],
        0.4581915942552156,
    ),
    ("people", ["a crowd of people"], 0.11267605633802819),
    ("a cat", ["two dogs play"], 0.0),
]


def test_meteor_is_that_of_its_own_program() -> None:
    captions = [caption.split() for caption, _, _ in METEOR]
    known = [[reference.split() for reference in references] for _, references, _ in METEOR]
    for caption, references, (_, _, expected) in zip(captions, known, METEOR, strict=True):
        assert meteor([caption], [references]) == pytest.approx(expected, abs=1e-9)
    assert meteor(captions, known) == pytest.approx(0.37765022111061947, abs=1e-9)


def every_alignment(caption: list[str], reference: list[str]) -> list[tuple[int, int, int]]:
    """Unmatched words, chunks and distance of all ways to pair words of one stem."""
    found: list[tuple[int, int, int]] = []

    def pair(here: int, pairs: list[tuple[int, int]]) -> None:
        if here == len(caption):
            chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
            distance = sum(abs(i - j) for i, j in pairs)
            found.append((len(caption) - len(pairs), chunks, distance))
            return
        pair(here + 1, pairs)
        for there, word in enumerate(reference):
            if stem(word) == stem(caption[here]) and there not in {j for _, j in pairs}:
                pair(here + 1, [*pairs, (here, there)])

    pair(0, [])
    return found


def test_meteors_alignment_is_that_of_an_exhaustive_search() -> None:
    chosen = random.Random(5)
    few = ["a", "the", "dog", "dogs", "runs", "run", "red"]
    for _ in range(60):
        caption, reference = (chosen.choices(few, k=chosen.randint(1, 6)) for _ in range(2))
        unmatched, chunks, _ = min(every_alignment(caption, reference))
        found = align_words(caption, reference)
        assert found.matches == len(caption) - unmatched
        whole = chunks == 1 and len(caption) == len(reference) == found.matches
        assert found.chunks == (0 if whole else chunks)


def test_nothing_in_common_has_no_meteor() -> None:
    assert Statistics(0, 0.0, 0, 3, 4).score == 0
    assert meteor([[]], [[["a"]]]) == 0


# ---- all together --------------------------------------------------------------------------------


def test_bleu_rouge_and_cider_are_those_of_the_coco_evaluation() -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    captions, references = drawn(60, seed=1)
    truth = {i: [" ".join(r) for r in known] for i, known in enumerate(references)}
    found = {i: [" ".join(caption)] for i, caption in enumerate(captions)}
    theirs, _ = Bleu(4).compute_score(truth, found, verbose=0)
    assert bleu(captions, references) == pytest.approx(theirs, abs=1e-9)
    _, each = Rouge().compute_score(truth, found)
    assert rouge_l(captions, references) == pytest.approx(each, abs=1e-9)
    _, each = Cider().compute_score(truth, found)
    assert cider_d(captions, references) == pytest.approx(each, abs=1e-9)


# What pycocoevalcap 1.2 says of `drawn(60, seed=1)`.
COCO = {
    "bleu_1": 0.76612903,
    "bleu_2": 0.57147796,
    "bleu_3": 0.4436864,
    "bleu_4": 0.33885244,
    "rouge_l": 0.68460685,
    "cider_d": 1.5957977,
}


def test_the_summary_holds_every_metric_and_its_definition() -> None:
    captions, references = drawn(60, seed=1)
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
    _, references = drawn(20, seed=2)
    texts = [[" ".join(reference) for reference in known] for known in references]
    scores = caption_metrics([known[0] for known in texts], texts)
    for name in ("bleu_1", "meteor_exact_stem", "rouge_l"):
        assert scores[name] == pytest.approx(1)
    assert scores["cider_d"] < 10
