"""Comparison of segmenters on one data set: `python -m tests.benchmarks.segment_table DATA`.

Prints a line for each: parameters, pixel accuracy and mean IoU on the test split, seconds per image
from file to label map, and minutes of training. All train from scratch for the same number of
epochs, on the same crops, on a VGG-16 (unet: its own encoder) with the same width multiplier.
Finished runs in --out are not repeated.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from dlkit.core.io.scores import Score
from dlkit.core.store.checkpoint import metadata
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.evaluate import evaluate_checkpoint
from dlkit.segment.infer import load
from dlkit.segment.layouts import read_split
from dlkit.segment.predictor import InferOptions, SemanticPredictor, predict
from dlkit.segment.train import train
from tests.benchmarks import harness

MODELS: dict[str, dict[str, Any]] = {
    "patch": {"places": 32},
    "fcn32s": {},
    "fcn16s": {},
    "fcn8s": {},
    "segnet": {},
    "dilated": {},
    "unet": {},
}
TIMED = 12  # images, one by one


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.segment_table", description=__doc__
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("segment-table"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width-multiplier", type=float, default=0.25)
    parser.add_argument("--image-size", type=int, default=None)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    harness.machine(torch.get_num_threads())
    for arch in options.only:
        harness.note(model=arch, **measure(arch, options))


def measure(arch: str, options: argparse.Namespace) -> dict[str, object]:
    out = options.out / arch
    best = out / "best.safetensors"
    if not best.exists():
        train(
            SegmentTrainConfig(
                data=options.data,
                out=out,
                arch=arch,  # type: ignore[arg-type]
                width_multiplier=options.width_multiplier,
                epochs=options.epochs,
                image_size=options.image_size,
                crop=options.crop,
                batch_size=options.batch_size,
                device=options.device,
                workers=0,
                **MODELS[arch],
            )
        )
    # The run may be from an earlier call, so the time is taken from its log.
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    scores = {
        score.metric: score.value
        for score in evaluate_checkpoint(
            [str(options.data)], "test", str(best), device=options.device
        )
        if isinstance(score, Score) and score.label == "all"
    }
    tensors = metadata(best)[1].values()
    return {
        "parameters": sum(math.prod(tensor["shape"]) for tensor in tensors),
        "pixel_accuracy": scores["pixel_accuracy"],
        "mean_iou": scores["mean_iou"],
        "seconds_per_image": round(seconds_per_image(best, options), 3),
        "minutes": round(sum(record["seconds"] for record in log) / 60, 1),
    }


def seconds_per_image(model: Path, options: argparse.Namespace) -> float:
    """Return the median over some images of the test split, after one of warm-up."""
    predictor = load(str(model), options.device)
    assert isinstance(predictor, SemanticPredictor)
    seconds = []
    for sample in read_split(options.data, "test", predictor.labels).samples[: TIMED + 1]:
        begun = time.perf_counter()
        list(predict(predictor, [str(sample.path)], InferOptions(batch_size=1, workers=0)))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
