"""Metrics of captions against references: BLEU, METEOR, ROUGE-L and CIDEr.

The numbers of BLEU, ROUGE-L and CIDEr-D equal those of the COCO caption evaluation (Chen et al.
2015, https://github.com/tylin/coco-caption). Captions are lists of words, see ptb_tokenize.py.

Shapes: N images, each with a caption to score and any number of references.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dlkit.caption.meteor import meteor
from dlkit.caption.ptb_tokenize import words

Words = Sequence[str]
Ngrams = Counter[tuple[str, ...]]

MAX_N = 4  # words of the longest n-grams
BETA = 1.2  # weight of recall against precision in ROUGE-L
SIGMA = 6.0  # standard deviation of the length penalty of CIDEr-D, in words
TINY, SMALL = 1e-15, 1e-9  # against divisions by zero, as in the COCO evaluation

_NGRAMS = "on the words of the COCO evaluation's tokenizer, all references"
_FREQUENCIES = "document frequencies from the evaluated references"
DEFINITIONS = {
    **{
        f"bleu_{n}": f"BLEU-{n} of all captions together, closest reference length; {_NGRAMS}."
        for n in range(1, MAX_N + 1)
    },
    "meteor_exact_stem": "METEOR 1.5 with exact and stem matches alone (no synonyms, no"
    " paraphrases, no function words); best reference, all captions together.",
    "rouge_l": f"ROUGE-L with beta {BETA}, mean over the images; {_NGRAMS}.",
    "cider": "CIDEr (Vedantam et al. 2015) times 10, without stemming: neither clipped nor with a"
    f" length penalty; {_FREQUENCIES}.",
    "cider_d": f"CIDEr-D with sigma {SIGMA:g}, times 10, as the COCO evaluation; {_FREQUENCIES}.",
}


def caption_metrics(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """All metrics of DEFINITIONS, of captions (N) with the references of each."""
    found = [words(caption) for caption in captions]
    known = [[words(reference) for reference in texts] for texts in references]
    scores = {f"bleu_{n}": value for n, value in enumerate(bleu(found, known), start=1)}
    return scores | {
        "meteor_exact_stem": meteor(found, known),
        "rouge_l": float(rouge_l(found, known).mean()),
        "cider": float(cider(found, known).mean()),
        "cider_d": float(cider_d(found, known).mean()),
    }


def ngrams(caption: Words) -> Ngrams:
    """The count of each n-gram of up to MAX_N words in a caption."""
    return Counter(
        tuple(caption[start : start + n])
        for n in range(1, MAX_N + 1)
        for start in range(len(caption) - n + 1)
    )


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """BLEU-1 to BLEU-4 (Papineni et al. 2002) of all captions together."""
    matched, total = np.zeros(MAX_N), np.zeros(MAX_N)
    length = closest = 0
    for caption, known in zip(captions, references, strict=True):
        most: Ngrams = Counter()
        for reference in known:
            most |= ngrams(reference)
        for ngram, count in ngrams(caption).items():
            matched[len(ngram) - 1] += min(count, most[ngram])
        total += [max(0, len(caption) - n) for n in range(MAX_N)]
        length += len(caption)
        closest += min((abs(len(r) - len(caption)), len(r)) for r in known)[1]
    precisions = (matched + TINY) / (total + SMALL)
    means = np.cumprod(precisions) ** (1 / np.arange(1, MAX_N + 1))
    ratio = (length + TINY) / (closest + SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return [float(mean) * brevity for mean in means]


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """ROUGE-L (Lin 2004) of each caption (N), by the best precision and the best recall."""
    pairs = zip(captions, references, strict=True)
    return np.array([rouge_l_of_caption(caption, known) for caption, known in pairs])


def rouge_l_of_caption(caption: Words, references: Sequence[Words]) -> float:
    common = [longest_common(caption, reference) for reference in references]
    precision = max(n / max(len(caption), 1) for n in common)
    recall = max(n / max(len(r), 1) for n, r in zip(common, references, strict=True))
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common(first: Words, second: Words) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, start=1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return row[-1]


class TfIdf:
    """TF-IDF weights of n-grams; a document is all references of an image."""

    def __init__(self, references: Sequence[Sequence[Ngrams]]) -> None:
        self.log_images = math.log(len(references))
        self.frequency = Counter(ngram for known in references for ngram in set().union(*known))

    def vectors(self, counts: Ngrams) -> list[dict[tuple[str, ...], float]]:
        """The weights of the n-grams of each length."""
        found: list[dict[tuple[str, ...], float]] = [{} for _ in range(MAX_N)]
        for ngram, count in counts.items():
            idf = self.log_images - math.log(max(1, self.frequency[ngram]))
            found[len(ngram) - 1][ngram] = count * idf
        return found


def cider(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """CIDEr (Vedantam et al. 2015, section 4) of each caption (N), times 10."""
    return consensus(captions, references, robust=False)


def cider_d(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """CIDEr-D (Vedantam et al. 2015, section 6) of each caption (N), times 10.

    Counts are clipped to those of the reference, and a difference in length is penalized.
    """
    return consensus(captions, references, robust=True)


def consensus(
    captions: Sequence[Words], references: Sequence[Sequence[Words]], robust: bool
) -> np.ndarray:
    """The mean cosine similarity (N) of TF-IDF vectors, over n-gram lengths and references."""
    known = [[ngrams(reference) for reference in texts] for texts in references]
    weights = TfIdf(known)
    scores = np.zeros(len(captions))
    for number, (caption, counts_of_all) in enumerate(zip(captions, known, strict=True)):
        own = weights.vectors(ngrams(caption))
        for counts, reference in zip(counts_of_all, references[number], strict=True):
            similarity = mean_cosine(own, weights.vectors(counts), robust)
            if robust:
                # The COCO evaluation counts bigrams as the length.
                longer = max(len(caption) - 1, 0) - max(len(reference) - 1, 0)
                similarity *= math.exp(-(longer**2) / (2 * SIGMA**2))
            scores[number] += 10 * similarity / len(counts_of_all)
    return scores


def mean_cosine(
    first: list[dict[tuple[str, ...], float]],
    second: list[dict[tuple[str, ...], float]],
    clipped: bool,
) -> float:
    """The mean cosine similarity over the lengths of n-grams."""
    total = 0.0
    for own, others in zip(first, second, strict=True):
        product = 0.0
        for ngram in own.keys() & others.keys():
            weight = min(own[ngram], others[ngram]) if clipped else own[ngram]
            product += weight * others[ngram]
        norms = math.hypot(*own.values()) * math.hypot(*others.values())
        total += product / norms if norms else 0.0
    return total / MAX_N
