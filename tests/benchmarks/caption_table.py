"""Scores of captioners with equal parameters, features and epochs.

`python -m tests.benchmarks.caption_table FOLDER` reads a folder of captions with train, val and
test. It prints a line for each architecture: parameters without the encoder, the scores on the
test split, and minutes of CPU time of training. Each network has the width that comes closest to
--parameters. Finished runs in --out are not repeated; the encoder's features are computed once.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from dlkit.caption.config import CaptionTrainConfig, by_arch
from dlkit.caption.data import load_data
from dlkit.caption.evaluate import evaluate_checkpoint
from dlkit.caption.model import build
from dlkit.caption.train import network_settings, train
from dlkit.core.io.scores import Score
from dlkit.tokenize import DecoderVocabulary
from tests.benchmarks import harness

MODELS: dict[str, dict[str, Any]] = {
    "nic": {"arch": "nic"},
    "attend": {"arch": "attend", "penalty": 0.2},
    "transformer": {"arch": "transformer", "layers": 2, "encoder_layers": 1},
}
WIDTHS = range(64, 641, 32)
SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor_exact_stem", "rouge_l", "cider_d")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("caption-table"))
    parser.add_argument("--backbone", default="caltech101")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--parameters", type=int, default=2_500_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    harness.machine(torch.get_num_threads(), "numpy")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        harness.note(model=name, **measured(name, options))


def configured(name: str, options: argparse.Namespace) -> CaptionTrainConfig:
    """Return the settings of a run with the width that comes closest to --parameters."""
    given = {
        "data": options.folder, "out": options.out / name, "backbone": options.backbone,
        "image_size": options.image_size, "features": options.out / "features.safetensors",
        "epochs": options.epochs, "device": options.device, "workers": 1, **MODELS[name],
    }  # fmt: skip
    vocabulary = load_data(by_arch(CaptionTrainConfig(**given))).vocabulary
    configs = [by_arch(CaptionTrainConfig(**given, width=width)) for width in WIDTHS]
    return min(configs, key=lambda c: abs(decoder_size(c, vocabulary) - options.parameters))


def decoder_size(config: CaptionTrainConfig, vocabulary: DecoderVocabulary) -> int:
    """Return the number of parameters without the encoder's."""
    settings, _ = network_settings(config, vocabulary)
    named = build(config.arch, **settings).named_parameters()
    return sum(weight.numel() for name, weight in named if not name.startswith("encoder."))


def measured(name: str, options: argparse.Namespace) -> dict[str, object]:
    config = configured(name, options)
    best = config.out / "best.safetensors"
    log = config.out / "log.jsonl"
    if not (log.exists() and len(log.read_text().splitlines()) == config.epochs):
        began = time.process_time()
        best = train(config)
        (config.out / "minutes").write_text(f"{(time.process_time() - began) / 60:.1f}")
    found = evaluate_checkpoint([str(options.folder)], "test", str(best), device=options.device)
    values = {
        score.metric: score.value
        for score in found
        if isinstance(score, Score) and score.label == "all"
    }
    vocabulary = load_data(config).vocabulary
    return {
        "width": config.width,
        "parameters": decoder_size(config, vocabulary),
        **{score: values[score] for score in SCORES},
        "cpu_minutes": float((config.out / "minutes").read_text()),
        "epochs": config.epochs,
    }


if __name__ == "__main__":
    main()
