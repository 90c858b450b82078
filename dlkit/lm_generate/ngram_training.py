"""`dlkit lm-generate train --arch ngram`: count, smooth, prune, evaluate. Loads no torch."""

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlkit.core.config import settings_of
from dlkit.core.errors import DlkitError
from dlkit.core.parallel.sharding import AnyProcess, join_processes
from dlkit.core.progress import log, spinning
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run_folder import RunFolder, command_card
from dlkit.lm_generate import corpus
from dlkit.lm_generate.config import OWN, LmTrainConfig
from dlkit.lm_generate.corpus import Corpus
from dlkit.lm_generate.ngram import NGram, NGramSettings, Trie, Values
from dlkit.lm_generate.ngram_files import save

if TYPE_CHECKING:
    from dlkit.lm_generate.counting import Runs

LOOPS = "the loops that count n-grams"


def train_ngram(config: LmTrainConfig) -> Path:
    """Train an n-gram model, and return its path in the run's folder."""
    folder = RunFolder(config.out)
    if folder.best.exists() and config.resume:
        log(f"{config.out} is finished")
        return folder.best
    folder.check_free(config.resume or None)
    start = time.monotonic()
    with ExitStack() as stack:
        process = stack.enter_context(join_processes())
        if process.is_main:
            corpus.prepare(config)
        # The other processes are done when the parts of the text are sorted.
        with work_folder(config.out / "counting", process) as scratch:
            text = corpus.open_corpus(config.out)
            if len(text.training) < 2:
                raise DlkitError(
                    f"{', '.join(config.data)}: no text to count; give another file or folder"
                )
            runs = sort_corpus(text, config, scratch, process)
            stack.close()
            if process.is_main:
                write_model(text, config, folder, scratch, runs, start)
    return folder.best


def write_model(
    text: Corpus,
    config: LmTrainConfig,
    folder: RunFolder,
    scratch: Path,
    runs: "Runs | None",
    start: float,
) -> None:
    """Build the model, and write it and its line in the log."""
    tokenizer = text.codec.to_settings()
    settings: NGramSettings = {"tokenizer": tokenizer, "smoothing": config.smoothing}
    model = NGram(
        Header("lm-generate", "ngram", settings, [], ngram_settings(config)),
        *build_trie(text, config, scratch, runs),
        config.smoothing == "add-k" and config.add_k > 0,
    )
    sizes = [len(words) for words in model.trie.words]
    listed = ", ".join(f"{size} of order {order}" for order, size in enumerate(sizes, 1))
    log(f"{sum(sizes)} n-grams: {listed}")
    if len(text.validation) > 1:
        model.header.metrics.update(held_out_scores(model, text.validation))
    model.header.card.update(command_card())
    save(folder.best, model, config.quantize)
    if config.arpa:
        from dlkit.lm_generate.arpa import write_arpa

        write_arpa(config.out / "best.arpa", model)
    record = {
        **model.header.metrics,
        "ngrams": sizes,
        "seconds": round(time.monotonic() - start, 2),
    }
    folder.write_log(record, 1)


@contextmanager
def work_folder(folder: Path, process: AnyProcess) -> Iterator[Path]:
    """An empty folder for intermediate files; the main process removes it afterwards."""
    if process.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    process.barrier()
    try:
        yield folder
    finally:
        if process.is_main:
            shutil.rmtree(folder)


def sort_corpus(
    text: Corpus, config: LmTrainConfig, folder: Path, process: AnyProcess
) -> "Runs | None":
    """Sort the n-grams of parts of the text, with all processes; see `counting`."""
    # Imported here: it takes a second to load numba.
    from dlkit.core.numba_tools import compile_notice
    from dlkit.lm_generate.counting import sort_parts

    codec = text.codec
    with compile_notice(LOOPS, 30):
        return sort_parts(
            text.training,
            codec.size,
            config.order,
            codec.line_end,
            folder,
            config.memory,
            process,
        )


def held_out_scores(model: NGram, ids: np.ndarray) -> dict[str, float]:
    """Loss in nats per token and perplexity; empty where a token is impossible."""
    loss = -float(model.score(ids)[1:].mean())
    if not math.isfinite(loss):
        log("perplexity inf: some of the validation text never occurs in the training text")
        return {}
    scores = {"val_loss": loss, "perplexity": math.exp(min(loss, 700))}
    log("  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    return scores


def build_trie(
    text: Corpus, config: LmTrainConfig, folder: Path, runs: "Runs | None"
) -> tuple[Trie, list[Values], list[Values]]:
    """Count the n-grams of a corpus, and compute their log-probabilities and back-off weights."""
    from dlkit.core.numba_tools import compile_notice
    from dlkit.lm_generate import pruning, smoothing
    from dlkit.lm_generate.counting import count

    thresholds = pruning.parse_thresholds(config.prune, config.order)
    with compile_notice(LOOPS, 30):
        codec = text.codec
        counts = count(text.training, codec.size, config.order, codec.line_end, folder, runs)
        with spinning("smoothing"):
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
                kept = pruning.select_frequent(counts, thresholds)
            if config.max_ngrams:
                important = pruning.select_important(counts, smoothed, config.max_ngrams, folder)
                kept = [a & b for a, b in zip(kept, important, strict=True)] if kept else important
            if kept:
                # Kneser-Ney applies thresholds itself.
                if config.max_ngrams or config.smoothing != "kneser-ney":
                    pruning.back_off(trie, smoothed, kept)
                trie, probs, backoffs = pruning.compact(trie, smoothed, kept)
    return trie, take_logs(probs), take_logs(backoffs)


def take_logs(levels: Sequence[np.ndarray]) -> list[Values]:
    """Replace the numbers of arrays by their natural logarithms, in place."""
    with np.errstate(divide="ignore"):
        return [Values(np.log(level, out=level)) for level in levels]


def ngram_settings(config: LmTrainConfig) -> dict[str, Any]:
    """The settings that apply to n-gram models."""
    settings = settings_of(config).items()
    return {name: value for name, value in settings if "ngram" in OWN.get(name, ("ngram",))}
