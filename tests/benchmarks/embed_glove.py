"""Speed of GloVe: `python -m tests.benchmarks.embed_glove TEXT --c-tools FOLDER`.

Whole processes on the same words against the programs of stanfordnlp/GloVe as its Makefile builds
them: counting with shuffling, and training. Both get a vocabulary prepared beforehand; dlkit reads
word ids, the original the text. Without --c-tools only dlkit is timed.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from dlkit.embed.corpus import SENTENCE_END
from tests.benchmarks import harness

COUNT = """
import sys, numpy as np
from pathlib import Path
from dlkit.embed.config import EmbedMethod, EmbedTrainConfig, resolve_config
from dlkit.embed.glove import count_corpus, load_pairs
ids, num_words, threads = np.memmap(sys.argv[1], np.int32, "r"), int(sys.argv[2]), int(sys.argv[3])
settings = EmbedTrainConfig(corpus=[], method=EmbedMethod.glove, out=Path(sys.argv[4]))
config = resolve_config(settings)
count_corpus(ids, num_words, config, threads, resuming=False)
load_pairs(num_words, config)
"""
TRAIN = """
import sys, numpy as np
from pathlib import Path
from dlkit.embed.config import EmbedMethod, EmbedTrainConfig, resolve_config
from dlkit.embed.cooccurrence import PAIR
from dlkit.embed.glove import GloveState, train_glove
num_words, threads, dim, epochs = map(int, sys.argv[2:])
pairs = np.memmap(sys.argv[1], PAIR, "r")
settings = EmbedTrainConfig(corpus=[], method=EmbedMethod.glove, dim=dim, epochs=epochs)
config = resolve_config(settings)
train_glove(pairs, GloveState.start(num_words, dim, 0), config, threads, lambda state: None)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--c-tools", type=Path)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    harness.machine(options.threads, "numba", "numpy")
    with tempfile.TemporaryDirectory() as name:
        measure(options, Path(name))


def measure(options: argparse.Namespace, folder: Path) -> None:
    num_words = prepare(options.text, options.megabytes, folder)
    vocabulary, text, threads = folder / "vocab.txt", folder / "text.txt", str(options.threads)
    python, tools = [sys.executable, "-c"], options.c_tools
    size, epochs = str(options.dim), str(options.epochs)
    ours = {
        "counting": [*python, COUNT, f"{folder}/ids", f"{num_words}", threads, f"{folder}"],
        "training": [
            *python, TRAIN, f"{folder}/pairs.bin", f"{num_words}", threads, size, epochs
        ],
    }  # fmt: skip
    theirs = {}
    if tools is not None:
        theirs["counting"] = [
            "sh", "-c",
            f"{tools}/cooccur -memory 4.0 -vocab-file {vocabulary} -window-size 15 -verbose 0 "
            f"-overflow-file {folder}/overflow < {text} > {folder}/c.bin && "
            f"{tools}/shuffle -memory 4.0 -verbose 0 < {folder}/c.bin > {folder}/c.shuf",
        ]  # fmt: skip
        theirs["training"] = [
            f"{tools}/glove", "-input-file", f"{folder}/c.shuf", "-vocab-file", f"{vocabulary}",
            "-save-file", f"{folder}/vectors", "-threads", threads, "-iter", epochs,
            "-vector-size", size, "-verbose", "0",
        ]  # fmt: skip
    totals: dict[str, float] = {}
    for stage, command in ours.items():
        contenders = {"dlkit": command} | ({"glove": theirs[stage]} if theirs else {})
        peer = "glove" if theirs else None
        measured = harness.compare_processes(
            f"GloVe: {stage}", contenders, options.clock, options.repeats, peer
        )
        for label, measurement in measured.items():
            totals[label] = totals.get(label, 0) + measurement.value / 1000
    if theirs:
        totals["ratio"] = totals["glove"] / totals["dlkit"]
    harness.note(total_seconds={label: round(value, 2) for label, value in totals.items()})


def prepare(source: Path, megabytes: float, folder: Path) -> int:
    """Write the text, its vocabulary (like vocab_count) and its ids; return the vocabulary size."""
    with source.open(encoding="utf-8") as file:
        lines = [line.split() for line in file.read(int(megabytes * 1e6)).lower().split("\n")]
    counted = Counter(word for line in lines for word in line)
    kept = [(word, count) for word, count in counted.most_common() if count >= 5]
    ids = {word: index for index, (word, _) in enumerate(kept)}
    encoded = [[*(ids[word] for word in line if word in ids), SENTENCE_END] for line in lines]
    np.concatenate([np.array(line, np.int32) for line in encoded]).tofile(folder / "ids")
    (folder / "text.txt").write_text("".join(" ".join(line) + "\n" for line in lines))
    (folder / "vocab.txt").write_text("".join(f"{word} {count}\n" for word, count in kept))
    return len(kept)


if __name__ == "__main__":
    main()
