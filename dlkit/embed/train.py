"""`dlkit embed train`: encode the corpus, train by one of the methods, save checkpoints.

A run's folder holds `best.safetensors` (the finished model), `last.state` (all that resuming needs,
in one file), `log.jsonl` and `curves.png`.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypedDict, TypeVar

import numpy as np

from dlkit.core.config import settings_of
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import draw_in_training, whole_file
from dlkit.core.parallel.sharding import join_processes
from dlkit.core.progress import Bar, duration, log
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.curves import curves
from dlkit.core.train.run_folder import RunFolder, command_card
from dlkit.core.train.stopping import StopSignals
from dlkit.embed.config import EmbedMethod, EmbedTrainConfig, ResolvedConfig, resolve_config
from dlkit.embed.data import Corpus, encode_corpus
from dlkit.embed.init_from import Start, find_start
from dlkit.embed.model import Embedding, EmbeddingSettings, Subwords, WordList, save_embedding

SAVE_INTERVAL = 240  # seconds
ABOUT = "about"  # the JSON entry of the state file
# Settings that a resumed run may change.
MAY_CHANGE = {"corpus", "out", "resume", "device", "threads", "memory", "half"}


class StateFields(TypedDict):
    """The fields of the state file whose types are checked when it is read."""

    config: dict[str, Any]
    numbers: dict[str, Any]
    corpus: dict[str, int]


class State(Protocol):
    """All that a method's training changes: a dataclass of arrays and numbers."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    epoch: int
    done: int


S = TypeVar("S", bound=State)


def train(config: EmbedTrainConfig) -> Path:
    """Train word vectors and return the path of the model.

    All processes count phrases and pairs of words; then the main one trains alone.
    """
    resolved = resolve_config(config)
    with ExitStack() as group:
        process = group.enter_context(join_processes())
        run = EmbedRun(resolved)
        start = find_start(resolved)
        process.barrier()  # every process has read the folder before it changes
        if run.complete:
            log(
                f"{run.files.path} is finished; the state of word vectors is not kept: to train"
                " them for more epochs, give another --out"
            )
            return run.files.best
        with encode_corpus(resolved, run.files.path, process) as corpus:
            if resolved.method is EmbedMethod.glove:
                from dlkit.embed import glove

                num_words, resuming = len(corpus.words), bool(run.saved)
                glove.count_corpus(corpus.ids, num_words, resolved, run.threads, resuming, process)
            group.close()
            if process.is_main:
                run.start(corpus)
                vectors, subwords = TRAINERS[resolved.method](corpus, resolved, run, start)
                run.finish(corpus, vectors, subwords)
    return run.files.best


def train_predicting(
    corpus: Corpus, config: ResolvedConfig, run: "EmbedRun", start: Start | None
) -> tuple[np.ndarray, Subwords | None]:
    """Train skip-gram, CBOW or fastText vectors, on a CUDA device or in threads."""
    rows = starts = buckets = None
    num_rows = num_words = len(corpus.words)
    if config.method is EmbedMethod.fasttext and config.maxn:
        rows, starts, buckets = subword_rows(corpus.words, config)
        num_rows += len(buckets)
    size = len(corpus.ids)
    # cbow gains from gensim's start, twice as wide as word2vec.c's.
    widest = 0.5 if config.method is EmbedMethod.skipgram else 1.0
    initial = None if start is None or run.saved else start.rows(corpus.words, buckets)
    if (device := accelerator(config.device)) is not None:
        from dlkit.embed.cuda import TorchState, train_batches

        torch_state = TorchState.start(num_rows, num_words, config.dim, config.seed, device, widest)
        if initial is not None:
            torch_state.set_inputs(*initial)
        torch_state = run.restore(torch_state)
        with run.progress(torch_state, size, lambda: torch_state.loss) as report:
            vectors = train_batches(
                corpus.ids, corpus.counts, config, torch_state, report, rows, starts
            )
        inputs = as_array(torch_state.inputs)
    else:
        from dlkit.embed.hogwild import HogwildState, train_hogwild

        state = HogwildState.start(num_rows, num_words, config, widest)
        if initial is not None:
            numbers, values = initial
            state.matrix(config.dim)[numbers] = values
        state = run.restore(state)
        with run.progress(state, size, lambda: state.loss) as report:
            train_hogwild(
                corpus.ids, corpus.counts, config, state, run.threads, report, rows, starts
            )
        inputs = state.matrix(config.dim)
        vectors = inputs if rows is None or starts is None else mean_rows(inputs, rows, starts)
    if buckets is None:
        return vectors, None
    return vectors, Subwords(config.minn, config.maxn, config.bucket, buckets, inputs[num_words:])


def subword_rows(
    words: list[str], config: ResolvedConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of all words, the start of each word's rows, and the buckets with a row.

    Row w < N is word w's own; the buckets of the vocabulary's n-grams follow, ascending.
    """
    from dlkit.embed.compiled_subwords import hash_ngrams

    hashes, starts = hash_ngrams(
        WordList.from_strings(words), config.minn, config.maxn, config.bucket
    )
    buckets, places = np.unique(hashes, return_inverse=True)
    rows = np.insert(places + len(words), starts[:-1], np.arange(len(words)))
    return rows.astype(np.int32), starts + np.arange(len(starts)), buckets


def mean_rows(inputs: np.ndarray, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the mean of each word's rows (N, D)."""
    means = np.empty((len(starts) - 1, inputs.shape[1]), np.float32)
    for word in range(len(means)):
        means[word] = inputs[rows[starts[word] : starts[word + 1]]].mean(axis=0)
    return means


def train_glove(
    corpus: Corpus, config: ResolvedConfig, run: "EmbedRun", start: None
) -> tuple[np.ndarray, Subwords | None]:
    from dlkit.embed import glove

    num_words = len(corpus.words)
    pairs = glove.load_pairs(num_words, config)
    state = run.restore(glove.GloveState.start(num_words, config.dim, config.seed))
    with run.progress(state, len(pairs), lambda: state.cost / max(state.done, 1)) as report:
        vectors = glove.train_glove(pairs, state, config, run.threads, report)
    (config.out / glove.PAIRS_FILE).unlink()
    return vectors, None


def train_lsa(
    corpus: Corpus, config: ResolvedConfig, run: "EmbedRun", start: None
) -> tuple[np.ndarray, Subwords | None]:
    from dlkit.embed import lsa

    return lsa.train_lsa(corpus.ids, len(corpus.words), config, run.threads), None


TRAINERS: dict[EmbedMethod, Callable[..., tuple[np.ndarray, Subwords | None]]] = {
    EmbedMethod.skipgram: train_predicting,
    EmbedMethod.cbow: train_predicting,
    EmbedMethod.fasttext: train_predicting,
    EmbedMethod.glove: train_glove,
    EmbedMethod.lsa: train_lsa,
}


def accelerator(name: str) -> str | None:
    """Return the CUDA device of that name; None for the CPU."""
    if name == "cpu":
        return None
    from dlkit.core.parallel.device import choose

    device = choose(name)
    if device.type == "mps" and name != "auto":
        raise DlkitError("dlkit embed trains on cpu or cuda, not on mps")
    return str(device) if device.type == "cuda" else None


class EmbedRun:
    """A training run: its folder, the state it resumes from, its progress and log."""

    def __init__(self, config: ResolvedConfig) -> None:
        self.config = config
        self.files = RunFolder(config.out, "last.state")
        self.threads = config.threads or os.cpu_count() or 1
        self.files.check_free(config.resume)
        self.saved, self.arrays = self.load_state()
        self.complete = self.files.best.exists() and not self.saved
        self.corpus: dict[str, int] = {}
        self.saved_at = time.monotonic()
        self.loss = math.nan
        self.stops = StopSignals(self.files)

    def load_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the settings and arrays of the state to resume from; empty if there is none."""
        path = self.files.state
        if not path.exists():
            return {}, {}
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            saved: dict[str, Any] = json.loads(arrays.pop(ABOUT).tobytes())
        except Exception as error:
            raise DlkitError("damaged; remove it to start over", path) from error
        with schema.contents(path, "damaged; remove it to start over"):
            schema.check(saved, StateFields, "its state", foreign=True)
            self.files.check_settings(self.config, saved["config"], "embed", MAY_CHANGE)
        return saved, arrays

    def start(self, corpus: Corpus) -> None:
        """Record the size of the corpus; DlkitError if a resumed run had another one."""
        sizes = {"total": corpus.total, "words": len(corpus.words), "ids": len(corpus.ids)}
        if self.saved and self.saved["corpus"] != sizes:
            raise DlkitError("was started with another corpus; give the same one", self.files.path)
        self.corpus = sizes

    def restore(self, state: S) -> S:
        """Restore the saved state, if there is one, into the initial `state` and return it."""
        if not self.saved:
            return state
        with schema.contents(self.files.state, "damaged, or of another model; remove it"):
            for name, value in self.arrays.items():
                current = getattr(state, name)
                if tuple(current.shape) != value.shape:
                    raise ValueError(name)
                if not isinstance(current, np.ndarray):
                    import torch

                    current.copy_(torch.from_numpy(value))
                else:
                    current[...] = value
            for name, number in self.saved["numbers"].items():
                if type(number) is not type(getattr(state, name)):
                    raise TypeError(name)
                setattr(state, name, number)
        self.arrays = {}
        self.stops.saved = f"in epoch {state.epoch + 1}"
        log(f"resuming {self.files.path} {self.stops.saved}")
        return state

    @contextmanager
    def progress(
        self, state: State, size: int, loss: Callable[[], float]
    ) -> Iterator[Callable[[Any], None]]:
        """Yield a function to call at intervals and after each epoch of `size` steps.

        It displays progress, saves the state and writes the log.
        """
        bar = Bar("training", self.config.epochs * size)
        before = state.epoch * size + state.done
        bar.advance(by=before)
        words_per_step = self.corpus["total"] / size
        began, first = time.monotonic(), before

        def report(_: object) -> None:
            nonlocal before, began, first
            here, now = state.epoch * size + state.done, time.monotonic()
            self.loss = loss()
            if not math.isfinite(self.loss):
                raise DlkitError(
                    f"the loss is {self.loss} in epoch {state.epoch + 1}; lower --lr (now "
                    f"{self.config.lr})"
                )
            speed = (here - first) * words_per_step / (now - began)
            line = f"epoch {state.epoch + 1}/{self.config.epochs}  loss {self.loss:.4f}"
            line += f"  {speed:.0f} words/s"
            bar.advance(lambda: line, by=here - before)
            before = here
            if state.done >= size:
                seconds, began, first = now - began, now, here
                log(f"{line}  {duration(seconds)}")
                self.finish_epoch(state, round(speed), round(seconds, 2))
            elif self.stops.received or now - self.saved_at > SAVE_INTERVAL:
                self.save(state)
            if self.stops.received and (state.epoch + 1, state.done) != (epochs, size):
                self.stops.stop(self.stops.received)

        epochs = self.config.epochs
        try:
            with self.stops.handlers():
                yield report
        finally:
            bar.close()

    def finish_epoch(self, state: State, words_per_second: int, seconds: float) -> None:
        """Write a line to the log, then the state: after a kill between them the log is ahead."""
        record = {
            "epoch": state.epoch + 1,
            "loss": self.loss,
            "words_per_second": words_per_second,
            "seconds": seconds,
        }
        self.files.write_log(record, state.epoch + 1)
        self.save(state)
        self.stops.saved = f"after epoch {state.epoch + 1}"

    def save(self, state: State) -> None:
        values = {field.name: getattr(state, field.name) for field in fields(state)}
        numbers = {name: v for name, v in values.items() if isinstance(v, (int, float))}
        arrays = {name: as_array(v) for name, v in values.items() if name not in numbers}
        about = {"config": settings_of(self.config), "corpus": self.corpus, "numbers": numbers}
        arrays[ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with whole_file(self.files.state) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        self.saved_at = time.monotonic()
        self.stops.saved = f"in epoch {state.epoch + 1}"

    def finish(self, corpus: Corpus, vectors: np.ndarray, subwords: Subwords | None) -> None:
        """Write the model and remove the state."""
        if not np.isfinite(vectors).all():
            raise DlkitError(f"the vectors are not finite; lower --lr (now {self.config.lr})")
        settings: EmbeddingSettings = {"dim": self.config.dim}
        if self.config.method is EmbedMethod.fasttext:
            settings["fasttext_model"] = self.config.fasttext_model
        header = Header(
            "embed",
            self.config.method.value,
            settings,
            [],
            settings_of(self.config),
            {} if math.isnan(self.loss) else {"loss": self.loss},
            command_card(),
        )
        words = WordList.from_strings(corpus.words)
        embedding = Embedding(header, words, vectors, corpus.counts, subwords)
        save_embedding(self.files.best, embedding, 16 if self.config.half else None)
        self.files.state.unlink(missing_ok=True)
        if records := self.files.read_log():
            losses = [{"epoch": record["epoch"], "loss": record["loss"]} for record in records]
            path = self.files.path / "curves.png"
            draw_in_training(path, curves, losses, None, path)
        loss = "" if math.isnan(self.loss) else f"; loss {self.loss:.4f} in the last epoch"
        log(f"{len(corpus.words)} words of {self.config.dim} numbers{loss}")


def as_array(value: Any) -> np.ndarray:
    """Convert a tensor on any device to an array."""
    return value if isinstance(value, np.ndarray) else value.cpu().numpy()
