"""Speed of searching word vectors: `python -m tests.benchmarks.embed_queries`.

Single queries and batches against gensim's most_similar, which is exact too, and `dlkit embed king`
as a whole process. The vectors are random, since speed does not depend on their values.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from dlkit.core.store.checkpoint import Header
from dlkit.embed.infer import similar
from dlkit.embed.model import Embedding, WordList, row_norms, save_embedding
from dlkit.embed.vectors import Vectors
from tests.benchmarks import harness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=300)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    harness.machine(options.threads, "numpy", "gensim")
    names = ["king", *(f"word{number}" for number in range(options.words - 1))]
    vectors = np.empty((options.words, options.dim), np.float32)
    rng = np.random.default_rng(0)
    for start in range(0, options.words, 10_000):
        part = vectors[start : start + 10_000]
        rng.standard_normal(out=part, dtype=np.float32)
    search(options, names, vectors)
    with tempfile.TemporaryDirectory() as folder:
        start_up(options, names, vectors, Path(folder) / "vectors.safetensors")


def embedding(names: list[str], vectors: np.ndarray) -> Embedding:
    header = Header("embed", "skipgram", {"dim": vectors.shape[1]}, [])
    return Embedding(header, WordList.from_strings(names), vectors, stored_norms=row_norms(vectors))


def search(options: argparse.Namespace, names: list[str], vectors: np.ndarray) -> None:
    from gensim.models import KeyedVectors

    ours = Vectors("random", embedding(names, vectors))
    half = Vectors("random", embedding(names, vectors.astype(np.float16)))
    theirs = KeyedVectors(options.dim)
    theirs.add_vectors(names, vectors)
    theirs.fill_norms()
    for count in (1, options.batch):
        queries = names[: 7 * count : 7]
        contenders = {
            "dlkit": lambda q=queries: list(similar([q], ours)),
            "dlkit, half precision": lambda q=queries: list(similar([q], half)),
            "gensim": lambda q=queries: [theirs.most_similar(word) for word in q],
        }
        harness.compare(
            f"{count} queries of {options.words} x {options.dim}",
            contenders,
            "queries",
            count,
            options.repeats,
            "gensim",
            clock=options.clock,
        )


def start_up(
    options: argparse.Namespace, names: list[str], vectors: np.ndarray, path: Path
) -> None:
    save_embedding(path, embedding(names[:20_000], vectors[:20_000, :100]), bits=16)
    commands = {
        "dlkit embed king": [sys.executable, "-m", "dlkit", "embed", "king", "-m", str(path)],
        "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
    }
    name = "whole processes, 20,000 x 100"
    harness.compare_processes(name, commands, options.clock, options.repeats)


if __name__ == "__main__":
    main()
