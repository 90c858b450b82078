"""Comparison of translators with one vocabulary, equal parameters and equal epochs.

`python -m tests.benchmarks.translate_table FOLDER` reads train, val and test_2016_flickr .en.txt
and .de.txt (or other languages and another test) from the folder. It prints a line for each
architecture: parameters, BLEU and chrF of the test by sacreBLEU (beam 5), BLEU with the source's
words as the translation, and seconds of training. Each network has the width that comes closest to
--parameters. Finished runs in --out are not repeated.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from dlkit.core.io.scores import Score
from dlkit.core.store.checkpoint import metadata
from dlkit.translate.config import TranslateTrainConfig, TranslationSearch, by_arch
from dlkit.translate.data import make_vocabulary
from dlkit.translate.evaluate import scores, translate_file
from dlkit.translate.infer import load
from dlkit.translate.model import build
from dlkit.translate.pairs import PairFiles, read_pairs
from dlkit.translate.train import network_settings, train
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.benchmarks import harness

MODELS: dict[str, dict[str, Any]] = {
    "rnn": {"arch": "rnn", "layers": 1, "lr": 2e-3},
    "attention": {"arch": "attention", "layers": 1, "lr": 2e-3},
    "transformer": {"arch": "transformer", "layers": 3, "lr": 2e-3},
}
WIDTHS = range(64, 513, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="de")
    parser.add_argument("--test", default="test_2016_flickr")
    parser.add_argument("--out", type=Path, default=Path("translate-table"))
    parser.add_argument("--vocab-size", type=int, default=6000)
    parser.add_argument("--parameters", type=int, default=3_000_000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    harness.machine(torch.get_num_threads(), "sacrebleu")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        harness.note(model=name, **measured(name, vocabulary(options), options))


def file(options: argparse.Namespace, part: str, language: str) -> str:
    return str(options.folder / f"{part}.{language}.txt")


def vocabulary(options: argparse.Namespace) -> Path:
    """Return the tokenizer that all models share."""
    path: Path = options.out / "tokens.json"
    if not path.exists():
        source, target = (file(options, "train", s) for s in (options.source, options.target))
        pairs = read_pairs(PairFiles([], [source], [target]), 0, 0.01, [])
        config = TranslateTrainConfig(vocab_size=options.vocab_size)
        path.write_text(make_vocabulary(config, pairs).tokenizer.to_json(), encoding="utf-8")
    return path


def configured(name: str, tokens: Path, options: argparse.Namespace) -> TranslateTrainConfig:
    """Return the settings of a run with the width that comes closest to --parameters."""
    source, target = options.source, options.target
    given = {
        "source": [file(options, "train", source)], "target": [file(options, "train", target)],
        "val_source": [file(options, "val", source)],
        "val_target": [file(options, "val", target)], "tokenizer": str(tokens),
        "dropout": 0.2, "schedule": "linear", "warmup": 1.0, "batch_size": 2048,
        "epochs": options.epochs, "device": options.device, "out": options.out / name,
        "select": "loss", **MODELS[name],
    }  # fmt: skip
    known = TranslationVocabulary.load(str(tokens))

    def with_width(width: int) -> TranslateTrainConfig:
        ffn_width = {"ffn_width": 2 * width} if name == "transformer" else {}
        return by_arch(TranslateTrainConfig(**{**given, "width": width, **ffn_width}))

    def size(config: TranslateTrainConfig) -> int:
        with torch.device("meta"):
            network = build(config.arch, **network_settings(config, known))
        return sum(parameter.numel() for parameter in network.parameters())

    configs = [with_width(width) for width in WIDTHS]
    return min(configs, key=lambda config: abs(size(config) - options.parameters))


def measured(name: str, tokens: Path, options: argparse.Namespace) -> dict[str, object]:
    config = configured(name, tokens, options)
    best = config.out / "best.safetensors"
    log = config.out / "log.jsonl"
    if not (log.exists() and len(log.read_text().splitlines()) == config.epochs):
        best = train(config)
    source, reference = (file(options, options.test, side)
                         for side in (options.source, options.target))  # fmt: skip
    found = translate_file(source, [reference], load(best, options.device), TranslationSearch())
    of_all = [score for score in scores(found, by_length=True) if isinstance(score, Score)]
    seconds = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
    sizes = [tensor["shape"] for tensor in metadata(best)[1].values()]
    return {
        "width": config.width,
        "parameters": sum(map(math.prod, sizes)),
        **{score.metric: score.value for score in of_all if score.label == "all"},
        **{score.label: score.value for score in of_all if score.label != "all"},
        "seconds": round(sum(seconds)),
    }


if __name__ == "__main__":
    main()
