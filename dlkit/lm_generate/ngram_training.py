"""`dlkit lm-generate train --arch ngram`: count, smooth, leave out, measure. Loads no torch."""

import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.checkpoint import Header
from dlkit.core.config import settings_of
from dlkit.core.errors import DlkitError
from dlkit.core.output import whole_file
from dlkit.core.progress import log
from dlkit.lm_generate.config import OWN, LmTrainConfig
from dlkit.lm_generate.corpus import Corpus, corpus_of
from dlkit.lm_generate.ngram import NGram, Trie, Values, save


def train_ngram(config: LmTrainConfig) -> Path:
    """Make an n-gram model of the corpus in the run's folder; returns the model's path."""
    best = config.out / "best.safetensors"
    if best.exists():
        if config.resume:
            log(f"{config.out} is complete")
            return best
        raise DlkitError(f"{config.out} holds a run already: give another --out")
    begun = time.monotonic()
    corpus = corpus_of(config.out)
    units = corpus.units
    if len(corpus.training) < 2:
        raise DlkitError(f"{', '.join(config.data)}: no text to count n-grams of")
    settings = {"tokenizer": units.to_settings(), "smoothing": config.smoothing}
    with emptied(config.out / "counting") as scratch:
        model = NGram(
            Header("lm-generate", "ngram", settings, [], own_settings(config)),
            *counted(corpus, config, scratch),
            config.smoothing == "add-k" and config.add_k > 0,
        )
        sizes = [len(words) for words in model.trie.words]
        shown = ", ".join(f"{size} of order {order}" for order, size in enumerate(sizes, 1))
        log(f"{sum(sizes)} n-grams: {shown}")
        if len(corpus.validation) > 1:
            model.header.metrics.update(held_out_scores(model, corpus.validation))
        model.header.card["command"] = shlex.join(["dlkit", *sys.argv[1:]])
        save(best, model, config.quantize)
        if config.arpa:
            from dlkit.lm_generate.arpa import write_arpa

            write_arpa(config.out / "best.arpa", model)
    record = {
        **model.header.metrics,
        "ngrams": sizes,
        "seconds": round(time.monotonic() - begun, 2),
    }
    with whole_file(config.out / "log.jsonl") as partial:
        partial.write_text(json.dumps(record) + "\n")
    return best


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """A folder to work in, without what a killed run left in it; it is removed in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def held_out_scores(model: NGram, ids: np.ndarray) -> dict[str, float]:
    """Loss in nats per token and perplexity; nothing where a token is impossible."""
    loss = -float(model.score(ids)[1:].mean())
    if not math.isfinite(loss):
        log("perplexity inf: some of the text to validate on never occurs in the text to train on")
        return {}
    scores = {"val_loss": loss, "perplexity": math.exp(min(loss, 700))}
    log("  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    return scores


def counted(
    corpus: Corpus, config: LmTrainConfig, folder: Path
) -> tuple[Trie, list[Values], list[Values]]:
    """The n-grams of a corpus, their log-probabilities and back-off weights."""
    # Here, since it takes a second to load what compiles them.
    from dlkit.core.compiled import loading
    from dlkit.lm_generate import pruning, smoothing
    from dlkit.lm_generate.counting import count

    thresholds = pruning.thresholds_of(config.prune, config.order)
    with loading("the loops that count n-grams", 30):
        counts = count(
            corpus.training,
            corpus.units.size,
            config.order,
            corpus.units.line_end,
            folder,
            config.memory,
        )
        if config.smoothing == "kneser-ney":
            smoothed = smoothing.kneser_ney(counts, thresholds, folder)
        elif config.smoothing == "katz":
            smoothed = smoothing.katz(counts, folder)
        elif config.smoothing == "jelinek-mercer":
            smoothed = smoothing.jelinek_mercer(counts, corpus.validation, folder)
        else:
            smoothed = smoothing.add_k(counts, config.add_k, folder)
        trie, probs, backoffs = counts.trie, smoothed.probs, smoothed.backoffs
        kept: list[np.ndarray] = []
        if any(thresholds):
            kept = pruning.frequent(counts, thresholds)
        if config.max_ngrams:
            important = pruning.most_important(counts, smoothed, config.max_ngrams, folder)
            kept = [a & b for a, b in zip(kept, important, strict=True)] if kept else important
        if kept:
            if config.max_ngrams or config.smoothing != "kneser-ney":  # which knows its thresholds
                pruning.back_off(trie, smoothed, kept)
            trie, probs, backoffs = pruning.compact(trie, smoothed, kept)
    return trie, logarithms(probs), logarithms(backoffs)


def logarithms(levels: Sequence[np.ndarray]) -> list[Values]:
    """The same arrays, with natural logarithms in place of the numbers."""
    with np.errstate(divide="ignore"):
        return [Values(np.log(level, out=level)) for level in levels]


def own_settings(config: LmTrainConfig) -> dict[str, Any]:
    """The settings that n-grams have."""
    settings = settings_of(config).items()
    return {name: value for name, value in settings if "ngram" in OWN.get(name, ("ngram",))}
