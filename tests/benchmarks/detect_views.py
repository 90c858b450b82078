"""AP50 and time of `--tta`, `--tile` and `--nms weighted`.

`python -m tests.benchmarks.detect_views DATA`
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

from dlkit.core.parallel.distributed import Process
from dlkit.detect.config import DEFAULT_MODEL
from dlkit.detect.evaluate import EVALUATION_OPTIONS, evaluate
from dlkit.detect.infer import load
from dlkit.detect.layouts import BoxSample, read_split
from dlkit.detect.options import DetectOptions
from dlkit.detect.predictor import Detector
from tests.benchmarks import harness

PLAIN = EVALUATION_OPTIONS


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.detect_views", description=__doc__
    )
    parser.add_argument("data", type=Path, help="annotated images, such as voc-animals")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--split", default="test")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    settings = parser.parse_args()
    harness.machine(settings.threads, "pillow")
    detector = load(settings.model, "cpu", "fp32")
    samples = read_split(settings.data, settings.split, detector.labels).samples
    weighted = PLAIN.suppression._replace(kind="weighted")
    methods = {
        "plain": PLAIN,
        "--nms weighted": replace(PLAIN, suppression=weighted),
        f"--tile {settings.tile}": replace(PLAIN, tile=settings.tile),
        "--tta": replace(PLAIN, tta=True),
    }
    print(f"{len(samples)} images")
    for name, method in methods.items():
        score, seconds = measured(detector, samples, method)
        print(f"{name:16} AP50 {score:.3f}  {1000 * seconds / len(samples):6.1f} ms per image")


def measured(
    detector: Detector, samples: Sequence[BoxSample], method: DetectOptions
) -> tuple[float, float]:
    """Return AP50 and seconds of CPU time."""
    process = Process(0, 1, torch.device("cpu"))
    before = time.process_time()
    with mock.patch("dlkit.detect.evaluate.EVALUATION_OPTIONS", method):
        metrics = evaluate(detector, samples, process, workers=0).metrics
    return metrics.summary["ap50_coco101"], time.process_time() - before


if __name__ == "__main__":
    main()
