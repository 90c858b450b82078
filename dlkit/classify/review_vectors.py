"""Word vectors that initialize the bundled model `reviews`.

    python -m dlkit.classify.review_vectors PACKS OUT.safetensors

PACKS is the folder of the unpacked packs text and wikipedia. The vectors are the singular vectors
of positive pointwise mutual information (Levy, Goldberg and Dagan 2015: window 5, contexts to the
power 0.75, square roots of the singular values). Sentence_polarity is not read, so that the vectors
may be used in a cross-validation on it. `dlkit classify train --arch bilstm --init-from OUT` starts
from the result.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dlkit.classify.text import TextClassifierSettings, WordVocabulary, read_texts
from dlkit.core.numba_tools import njit
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header, save

WINDOW = 5
CONTEXT_POWER = 0.75
REVIEWS = 2.0  # weight of word pairs in reviews; 1 elsewhere
SCALE = 0.3  # standard deviation of the vectors


def corpus(packs: Path) -> Iterator[tuple[str, float]]:
    """Yield texts with their weights."""
    for text, _ in read_texts(packs / "text" / "movie_reviews").split("all")[1]:
        yield text, REVIEWS
    with (packs / "wikipedia" / "wiki.train.txt").open(encoding="utf-8") as paragraphs:
        yield from ((line, 1.0) for line in paragraphs)
    for novel in sorted((packs / "text" / "novels").glob("*.txt")):
        yield from ((part, 1.0) for part in novel.read_text(encoding="utf-8").split("\n\n"))


@njit(cache=True)
def count_pairs(ids: np.ndarray, weight: float, counts: np.ndarray) -> None:
    """Count pairs of known words at most WINDOW apart; closer pairs have more weight."""
    for i in range(len(ids)):
        for j in range(i + 1, min(i + WINDOW + 1, len(ids))):
            if ids[i] > 1 and ids[j] > 1:  # 0 is padding, 1 any unknown word
                added = weight * (WINDOW + 1 - (j - i)) / WINDOW
                counts[ids[i], ids[j]] += added
                counts[ids[j], ids[i]] += added


def positive_information(counts: np.ndarray) -> np.ndarray:
    """Compute positive pointwise mutual information in place of the counts."""
    words = counts.sum(axis=1) + 1e-9
    contexts = words**CONTEXT_POWER
    contexts /= contexts.sum()
    for row, total in zip(counts, words, strict=True):
        with np.errstate(divide="ignore"):
            row[:] = np.log(row / (total * contexts))
    np.maximum(counts, 0, out=counts)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--words", type=int, default=25_000)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()

    texts = list(corpus(options.packs))
    own = [text for text, weight in texts if weight == REVIEWS]
    vocabulary = WordVocabulary.learn(own, options.words)
    counts = np.zeros((len(vocabulary), len(vocabulary)), np.float32)
    for text, weight in texts:
        count_pairs(np.array(vocabulary.tokenizer.encode(text), np.int64), weight, counts)
    log(f"{len(vocabulary)} words, counted in {len(texts)} texts")
    torch.manual_seed(0)
    u, s, _ = torch.svd_lowrank(torch.from_numpy(positive_information(counts)), options.size + 32)
    vectors = (u * s.sqrt())[:, : options.size]
    vectors *= SCALE / vectors.std()
    vectors[:2] = 0
    settings: TextClassifierSettings = {"vocabulary": vocabulary.to_settings(), "max_length": 400}
    header = Header("classify", "bilstm", settings, [])
    save(options.out, {"embedding.weight": vectors}, header, bits=16)


if __name__ == "__main__":
    main()
