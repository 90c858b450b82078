"""Speed and quality of `dlkit embed train`: `python -m tests.benchmarks.embed TEXT...`.

Against gensim and fastText on the same text with the same settings and threads. Speed is the number
of words in the text divided by the seconds of an epoch, in processes that take turns; it covers
training alone where the library can time it (fastText's includes reading and counting). Quality
(`--quality FILE`, of word pairs) is Spearman's correlation after `--epochs`, for each of `--seeds`;
fastText's package takes no seed, but its threads make its runs differ.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.io.scores import Score
from dlkit.core.store.checkpoint import Header
from dlkit.embed.config import EmbedTrainConfig, ResolvedConfig, resolve_config
from dlkit.embed.corpus import normalize
from dlkit.embed.data import encode_corpus
from dlkit.embed.evaluate import evaluate_checkpoint
from dlkit.embed.hogwild import HogwildState, train_hogwild
from dlkit.embed.model import Embedding, WordList, load_embedding, save_embedding
from dlkit.embed.train import subword_rows, train
from tests.benchmarks import harness

METHODS = ["skipgram", "cbow", "fasttext"]
LEAST: dict[str, dict[str, float]] = {
    "skipgram": {"gensim": 1.5},
    "cbow": {"gensim": 1.5},
    "fasttext": {"fasttext": 2, "gensim": 1},
}


def settings(corpus: str, method: str, **changed: Any) -> ResolvedConfig:
    config = EmbedTrainConfig(corpus=[corpus], method=method, device="cpu", **changed)  # type: ignore[arg-type]
    return resolve_config(config)


def prepare_dlkit(corpus: str, method: str, threads: int) -> Callable[[], object]:
    config = settings(corpus, method, epochs=1, out=Path(tempfile.mkdtemp()))
    with encode_corpus(config, config.out) as encoded:
        ids = np.array(encoded.ids)
    num_words = num_rows = len(encoded.words)
    rows = starts = None
    if method == "fasttext":
        rows, starts, buckets = subword_rows(encoded.words, config)
        num_rows += len(buckets)

    def work() -> None:
        state = HogwildState.start(num_rows, num_words, config, 0.5)
        train_hogwild(ids, encoded.counts, config, state, threads, lambda _: None, rows, starts)

    return work


def prepare_gensim(corpus: str, method: str, threads: int) -> Callable[[], object]:
    model = gensim_model(corpus, method, threads, 1, 1)

    def work() -> None:
        model.train(
            corpus_file=corpus, epochs=1, total_words=model.corpus_total_words,
            total_examples=model.corpus_count,
        )  # fmt: skip

    return work


def gensim_model(corpus: str, method: str, threads: int, epochs: int, seed: int) -> Any:
    """Build a gensim model with its vocabulary."""
    from gensim.models import FastText, Word2Vec

    config = settings(corpus, method)
    options: dict[str, Any] = {
        "vector_size": config.dim, "window": config.window, "negative": config.negative,
        "min_count": config.min_count, "sample": config.sample, "alpha": config.lr,
        "sg": int(method != "cbow"), "workers": threads, "epochs": epochs, "seed": seed,
    }  # fmt: skip
    if method == "fasttext":
        grams = {"min_n": config.minn, "max_n": config.maxn, "bucket": config.bucket}
        model = FastText(**options, **grams)
    else:
        model = Word2Vec(**options)
    model.build_vocab(corpus_file=corpus)
    return model


def prepare_fasttext(corpus: str, method: str, threads: int) -> Callable[[], object]:
    def work() -> None:
        fasttext_model(corpus, threads, 1)

    return work


def fasttext_model(corpus: str, threads: int, epochs: int) -> Any:
    import fasttext

    config = settings(corpus, "fasttext")
    return fasttext.train_unsupervised(
        corpus, model="skipgram", dim=config.dim, ws=config.window, neg=config.negative,
        minCount=config.min_count, t=config.sample, lr=config.lr, epoch=epochs, thread=threads,
        minn=config.minn, maxn=config.maxn, bucket=config.bucket, verbose=0,
    )  # fmt: skip


PEERS = {"gensim": prepare_gensim, "fasttext": prepare_fasttext}


def train_vectors(
    contender: str, corpus: str, method: str, threads: int, epochs: int, seed: int, folder: Path
) -> Path:
    """Train, and save the vectors in dlkit's format."""
    path = folder / f"{contender}-{method}-{seed}.safetensors"
    if contender == "dlkit":
        best = train(settings(corpus, method, out=path, epochs=epochs, seed=seed, threads=threads))
        # Without n-grams, so that only pairs of known words count, as for the peers.
        save_embedding(best, replace(load_embedding(best), subwords=None))
        return best
    if contender == "gensim":
        model = gensim_model(corpus, method, threads, epochs, seed)
        model.train(
            corpus_file=corpus, epochs=epochs, total_words=model.corpus_total_words,
            total_examples=model.corpus_count,
        )  # fmt: skip
        words, vectors = list(model.wv.index_to_key), np.asarray(model.wv.vectors)
    else:
        model = fasttext_model(corpus, threads, epochs)
        words = [word for word in model.words if word != "</s>"]
        vectors = np.array([model.get_word_vector(word) for word in words])
    header = Header("embed", method, {"dim": vectors.shape[1]}, [])
    save_embedding(path, Embedding(header, WordList.from_strings(words), vectors))
    return path


def peers(method: str) -> list[str]:
    return [p for p in PEERS if find_spec(p) and (p == "gensim" or method == "fasttext")]


def speed(corpus: str, method: str, arguments: argparse.Namespace) -> None:
    count = len(Path(corpus).read_bytes().split())
    for peer in peers(method):
        contenders = {
            "dlkit": partial(prepare_dlkit, corpus, method, arguments.threads),
            peer: partial(PEERS[peer], corpus, method, arguments.threads),
        }
        found = harness.compare_apart(
            f"{method} against {peer}", contenders, "words", count, arguments.repeats, peer,
            arguments.threads, arguments.clock,
        )  # fmt: skip
        harness.require(found["dlkit"], at_least=LEAST[method][peer])


def quality(corpus: str, method: str, arguments: argparse.Namespace, folder: Path) -> None:
    for contender in ["dlkit", *peers(method)]:
        scores: dict[str, list[float]] = {}
        for seed in range(1, arguments.seeds + 1):
            path = train_vectors(
                contender, corpus, method, arguments.threads, arguments.epochs, seed, folder
            )
            for score in evaluate_checkpoint(arguments.quality, model=str(path)):
                if isinstance(score, Score) and score.metric == "spearman" and score.value:
                    scores.setdefault(score.label, []).append(score.value)
        for name, values in scores.items():
            harness.note(
                quality=method, contender=contender, on=name,
                mean=round(statistics.mean(values), 4), each=[round(value, 4) for value in values],
            )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=int, default=20, help="megabytes of text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--only", default="", help="methods with this in their name")
    parser.add_argument("--quality", nargs="*", default=[], help="files of word pairs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-speed", action="store_true")
    given = parser.parse_args(arguments)
    harness.machine(given.threads, "gensim", "fasttext-wheel", "numba", "numpy", "scipy")
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        text = b"".join(path.read_bytes() for path in given.texts)[: given.megabytes * 1_000_000]
        block = text.decode(errors="ignore").encode()
        corpus.write_bytes(normalize(block, lower=True, words=True) + b"\n")
        for method in METHODS:
            if given.only not in method:
                continue
            if not given.no_speed:
                speed(str(corpus), method, given)
            if given.quality:
                quality(str(corpus), method, given, Path(folder))


if __name__ == "__main__":
    main()
