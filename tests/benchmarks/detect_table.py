"""Comparison of detectors on one data set: `python -m tests.benchmarks.detect_table DATA`.

Trains the methods one after another, from the same backbone and on the same images of the same
size, and saves a row for each when it is finished: parameters, mAP and AP50 on the test split,
epochs, and core minutes (CPU time) of training. `rcnn` and `fasterrcnn`, whose epochs take several
times as long, get fewer epochs. Finally all are timed in turns, in images per second from file to
boxes; the table is in table.md. With --picture FILE, the detections of each method in a photograph
are drawn into one image. Finished work in --out is not repeated, and interrupted runs are resumed.
"""

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dlkit.core.io.files import whole_file
from dlkit.core.io.scores import Score
from dlkit.core.store.checkpoint import metadata
from dlkit.core.vision import images
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.evaluate import evaluate_checkpoint
from dlkit.detect.infer import Detections, detect, draw_objects, load
from dlkit.detect.layouts import read_split
from dlkit.detect.model import ARCHITECTURES
from dlkit.detect.models.sliding_window import SlidingWindow
from dlkit.detect.options import DetectOptions
from dlkit.detect.predictor import Detector, Predictor
from dlkit.detect.train import train
from tests.benchmarks import harness

# In historical order: settings other than the common ones, and the fraction of --epochs.
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "sliding-window": ({"lr": 1e-3}, 1.0),
    "rcnn": ({"lr": 5e-4}, 0.2),
    "fast-rcnn": ({}, 1.0),
    "fasterrcnn": ({"lr": 1e-3}, 0.4),
    "yolo-v1": ({"lr": 3e-4}, 1.0),
    "ssd": ({"lr": 1e-3}, 1.0),
    "retinanet": ({"lr": 5e-4}, 1.0),
    "fcos": ({"lr": 1e-3}, 1.0),
    "yolo": ({"size": "nano"}, 1.0),
}
TIMED, ROUNDS = 32, 3  # images, in batches of 16, and rounds, whose median counts
BY_CROPPING = "sliding-window, by cropping"  # one image, once: one window at a time
SHOWN = 0.3  # score above which an object is drawn; the best one is always drawn
COLUMNS = ("parameters", "map", "ap50", "images_a_second", "epochs", "core_minutes")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.detect_table", description=__doc__
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("detect-table"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--backbone", default="caltech101")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--picture", type=Path, help="a photograph to detect in")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    assert METHODS.keys() <= ARCHITECTURES.keys()
    harness.machine(options.threads)
    best: dict[str, Path] = {}
    rows: dict[str, dict[str, Any]] = {}
    for arch in options.only:
        best[arch] = options.out / arch / "best.safetensors"
        core_minutes = trained(arch, options)
        rows[arch] = scored(arch, best[arch], core_minutes, options)
    for arch, rate in speeds(best, options).items():
        rows.setdefault(arch, {})["images_a_second"] = rate
    with whole_file(options.out / "table.md") as partial_file:
        partial_file.write_text(table(rows))
    harness.print_text(table(rows))
    if options.picture is not None:
        drawings = [to_picture(path, options) for path in best.values()]
        path = options.out / f"{options.picture.stem}.png"
        images.save(images.grid(drawings, min(3, len(drawings)), captions=[*best]), path)
        harness.note(picture=str(path))


def trained(arch: str, options: argparse.Namespace) -> float | None:
    """Train or resume a run; return the core minutes of all its epochs, None if it was finished."""
    out: Path = options.out / arch
    own, share = METHODS[arch]
    epochs = max(1, round(options.epochs * share))
    before = len(logged(out))
    if before >= epochs:
        return None
    began = time.process_time()
    share_proposals(arch, options.out)
    common = {
        "data": options.data,
        "out": out,
        "arch": arch,
        "backbone": options.backbone,
        "epochs": epochs,
        "warmup": 0.3,
        "close_mosaic": max(1, epochs // 4),
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "mosaic": 0.3,
        "ema": 0.998,
        "workers": 0,
        "device": options.device,
        "resume": True,
    }
    train(DetectTrainConfig(**{**common, **own}))
    minutes = (time.process_time() - began) / 60
    return minutes * epochs / (epochs - before)


def logged(out: Path) -> list[str]:
    """Return the lines of the log, one per finished epoch."""
    log = out / "log.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def share_proposals(arch: str, out: Path) -> None:
    """Copy region proposals that another method has already computed."""
    target = out / arch / "proposals.npz"
    files = (out / name / target.name for name, own in ARCHITECTURES.items() if own.proposals)
    found = next((file for file in files if file.exists()), None)
    if ARCHITECTURES[arch].proposals and found is not None and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, target)


def scored(
    arch: str, best: Path, core_minutes: float | None, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the row of a method without its speed, saved beside the run."""
    file = best.parent / "row.json"
    epochs = len(logged(best.parent))
    row: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if row.get("epochs") != epochs:
        data = [str(options.data)]
        scores = {
            score.metric: score.value
            for score in evaluate_checkpoint(data, "test", str(best), device=options.device)
            if isinstance(score, Score) and score.label == "all"
        }
        row = {
            "parameters": sum(math.prod(own["shape"]) for own in metadata(best)[1].values()),
            "map": scores["map_50_95_coco101"],
            "ap50": scores["ap50_coco101"],
            "epochs": epochs,
            "core_minutes": "" if core_minutes is None else round(core_minutes, 1),
        }
        with whole_file(file) as partial_file:
            partial_file.write_text(json.dumps(row))
    harness.note(method=arch, **row)
    return row


def speeds(best: dict[str, Path], options: argparse.Namespace) -> dict[str, float]:
    """Measure images per second of all methods; of the sliding window also by cropping."""
    paths = [str(s.path) for s in read_split(options.data, "test").samples[:TIMED]]
    detectors = {arch: load(str(path), options.device) for arch, path in best.items()}
    work: dict[str, Callable[[], object]] = {
        arch: partial(count_processed, paths, detector) for arch, detector in detectors.items()
    }
    measured = harness.compare(
        "detection", work, "images", len(paths), ROUNDS, threads=options.threads
    )
    rates = {arch: own.value for arch, own in measured.items()}
    if "sliding-window" in detectors:
        network = detectors["sliding-window"].network
        assert isinstance(network, SlidingWindow)
        network.by_cropping = True
        work = {BY_CROPPING: partial(count_processed, paths[:1], detectors["sliding-window"])}
        own = harness.compare("detection", work, "images", 1, 1, threads=options.threads)
        rates[BY_CROPPING] = own[BY_CROPPING].value
    return rates


def count_processed(paths: list[str], detector: Detector) -> int:
    """Process images from file to boxes; return their number."""
    return sum(1 for _ in Predictor(detector, DetectOptions()).predict(paths))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Format the rows as a Markdown table, in historical order."""
    lines = [["method", *(name.replace("_", " ") for name in COLUMNS)], ["---"] * 7]
    for arch in [BY_CROPPING, *METHODS]:
        if arch in rows:
            values = [rows[arch].get(name, "") for name in COLUMNS]
            lines.append([arch, *(f"{v:.3g}" if isinstance(v, float) else f"{v}" for v in values)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_picture(best: Path, options: argparse.Namespace) -> Any:
    """Draw the boxes that the model finds into the photograph."""
    detector = load(str(best), options.device)
    [found] = detect([str(options.picture)], detector, DetectOptions(threshold=0.01))
    assert isinstance(found, Detections)
    sure = [own for own in found.objects if own.score >= SHOWN]
    photograph = images.as_pillow(images.read(str(options.picture)))
    return draw_objects(photograph, sure or found.objects[:1], detector.labels)


if __name__ == "__main__":
    main()
