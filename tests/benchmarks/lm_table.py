"""Comparison of language models with one vocabulary on one text.

`python -m tests.benchmarks.lm_table TRAIN VALID TEST` prints a line for each: parameters (for an
n-gram model, the number of its n-grams), perplexity per token of TEST, ends of lines included, and
minutes of training. Networks keep the epoch that is best on VALID. Finished runs in --out are not
repeated.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch

from dlkit.core.io.scores import Score
from dlkit.core.store.checkpoint import metadata, read_header
from dlkit.lm_generate.config import LmTrainConfig
from dlkit.lm_generate.evaluate import evaluate_checkpoint
from dlkit.lm_generate.train import train
from dlkit.tokenize import train as train_tokenizer
from tests.benchmarks import harness

LEARNED: dict[str, Any] = {"width": 200, "dropout": 0.3, "batch_size": 32}
RECURRENT = {**LEARNED, "context": 35}
MODELS: dict[str, dict[str, Any]] = {
    "kneser-ney-5": {"arch": "ngram", "order": 5},
    "bengio": {**LEARNED, "arch": "bengio", "context": 4, "hidden": 400},
    "rnn-elman": {**RECURRENT, "arch": "rnn-elman", "lr": 1e-3},
    "gru": {**RECURRENT, "arch": "gru"},
    "lstm": {**RECURRENT, "arch": "lstm"},
    "gpt": {**LEARNED, "arch": "gpt", "context": 70, "layers": 4, "heads": 4, "dropout": 0.2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train")
    parser.add_argument("valid")
    parser.add_argument("test")
    parser.add_argument("--out", type=Path, default=Path("lm-table"))
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    harness.machine(torch.get_num_threads(), "numba", "numpy")
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = options.out / "words.json"
    if not tokenizer.exists():
        learned = train_tokenizer(
            [Path(options.train)],
            algorithm="words",
            vocab_size=options.vocab_size,
            normalize="lower",
            special=["<unk>", "</s>"],
        )
        tokenizer.write_text(learned.to_json())
    for name in options.only:
        harness.note(model=name, **measure(name, tokenizer, options))


def measure(name: str, tokenizer: Path, options: argparse.Namespace) -> dict[str, object]:
    settings = dict(MODELS[name])
    if settings["arch"] != "ngram":
        settings |= {"epochs": options.epochs, "device": options.device}
    out = options.out / name
    best = out / "best.safetensors"
    begun = time.monotonic()
    if not best.exists():
        best = train(
            LmTrainConfig(
                data=[options.train],
                val=[options.valid],
                out=out,
                tokenizer=str(tokenizer),
                **settings,
            )
        )
    minutes = (time.monotonic() - begun) / 60
    scores = {
        score.metric: score.value
        for score in evaluate_checkpoint([options.test], "all", str(best), device=options.device)
        if isinstance(score, Score)
    }
    return {
        "parameters": parameters(best),
        "perplexity": scores["perplexity"],
        "unknown": scores["unknown"],
        "minutes": round(minutes, 1),
    }


def parameters(path: Path) -> int:
    header = read_header(path)
    if header.arch == "ngram":
        return sum(header.settings["ngrams"])
    return sum(math.prod(tensor["shape"]) for tensor in metadata(path)[1].values())


if __name__ == "__main__":
    main()
