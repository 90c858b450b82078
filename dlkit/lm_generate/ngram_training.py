"""`dlkit lm-generate train --arch ngram`: count, smooth, leave out, measure. Loads no torch."""

import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlkit.core.config import settings_of
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.parallel.sharding import AnyProcess, join_processes
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate import corpus
from dlkit.lm_generate.config import OWN, LmTrainConfig
from dlkit.lm_generate.corpus import Corpus
from dlkit.lm_generate.ngram import NGram, Trie, Values, save

if TYPE_CHECKING:
    from dlkit.lm_generate.counting import Runs

LOOPS = "the loops that count n-grams"


def train_ngram(config: LmTrainConfig) -> Path:
    """Make an n-gram model of the corpus in the run's folder; returns the model's path."""
    best = config.out / "best.safetensors"
    if best.exists():
        if config.resume:
            log(f"{config.out} is complete")
            return best
        raise DlkitError(f"{config.out} holds a run already: give another --out")
    begun = time.monotonic()
    with ExitStack() as meeting:
        process = meeting.enter_context(join_processes())
        if process.is_main:
            corpus.prepare(config)
        # The other processes leave when the parts of the text are sorted.
        with emptied(config.out / "counting", process) as scratch:
            text = corpus.corpus_of(config.out)
            if len(text.training) < 2:
                raise DlkitError(f"{', '.join(config.data)}: no text to count n-grams of")
            runs = sorted_parts(text, config, scratch, process)
            meeting.close()
            if process.is_main:
                write_model(text, config, scratch, runs, begun)
    return best


def write_model(
    text: Corpus, config: LmTrainConfig, scratch: Path, runs: "Runs | None", begun: float
) -> None:
    """The model of the counts, and its line in the log."""
    best = config.out / "best.safetensors"
    settings = {"tokenizer": text.units.to_settings(), "smoothing": config.smoothing}
    model = NGram(
        Header("lm-generate", "ngram", settings, [], own_settings(config)),
        *counted(text, config, scratch, runs),
        config.smoothing == "add-k" and config.add_k > 0,
    )
    sizes = [len(words) for words in model.trie.words]
    shown = ", ".join(f"{size} of order {order}" for order, size in enumerate(sizes, 1))
    log(f"{sum(sizes)} n-grams: {shown}")
    if len(text.validation) > 1:
        model.header.metrics.update(held_out_scores(model, text.validation))
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


@contextmanager
def emptied(folder: Path, process: AnyProcess) -> Iterator[Path]:
    """A folder to work in, without what a killed run left in it; the main process removes it."""
    if process.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    process.barrier()
    try:
        yield folder
    finally:
        if process.is_main:
            shutil.rmtree(folder)


def sorted_parts(
    text: Corpus, config: LmTrainConfig, folder: Path, process: AnyProcess
) -> "Runs | None":
    """The n-grams of parts of the text, sorted by all processes; see `counting`."""
    # Here, since it takes a second to load what compiles them.
    from dlkit.core.numba_tools import loading
    from dlkit.lm_generate.counting import sort_parts

    units = text.units
    with loading(LOOPS, 30):
        return sort_parts(
            text.training,
            units.size,
            config.order,
            units.line_end,
            folder,
            config.memory,
            process,
        )


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
    text: Corpus, config: LmTrainConfig, folder: Path, runs: "Runs | None"
) -> tuple[Trie, list[Values], list[Values]]:
    """The n-grams of a corpus, their log-probabilities and back-off weights."""
    from dlkit.core.numba_tools import loading
    from dlkit.lm_generate import pruning, smoothing
    from dlkit.lm_generate.counting import count

    thresholds = pruning.thresholds_of(config.prune, config.order)
    with loading(LOOPS, 30):
        units = text.units
        counts = count(text.training, units.size, config.order, units.line_end, folder, runs)
        if config.smoothing == "kneser-ney":
            smoothed = smoothing.kneser_ney(counts, thresholds, folder)
        elif config.smoothing == "katz":
            smoothed = smoothing.katz(counts, folder)
        elif config.smoothing == "jelinek-mercer":
            smoothed = smoothing.jelinek_mercer(counts, text.validation, folder)
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
