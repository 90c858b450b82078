"""The course's detectors on one data set: `python -m tests.benchmarks.detect_table DATA`.

Prints a line for each: parameters, mAP and AP50 on the split test, images a second from file to
boxes on all cores, and minutes of training. All start from the same backbone and learn from the
same pictures of the same size; those that need more time for an epoch have fewer, so that all
take about as long. With --picture FILE, what each finds in a photograph is drawn into one
picture, FILE.table.png beside the runs. Runs that are in --out are not repeated.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from dlkit.core import images
from dlkit.core.checkpoint import metadata
from dlkit.core.scores import Score
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.draw import draw_boxes
from dlkit.detect.evaluate import evaluate_checkpoint
from dlkit.detect.finder import Detector, Finder, Method
from dlkit.detect.infer import Detections, detect, load
from dlkit.detect.layouts import read_split
from dlkit.detect.model import ARCHITECTURES
from dlkit.detect.models.sliding_window import SlidingWindow
from dlkit.detect.train import train
from tests.benchmarks import harness

# In the order of the story: what differs from the common settings, and the share of the epochs.
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "sliding-window": ({}, 0.6),
    "rcnn": ({"lr": 5e-4}, 0.4),
    "fast-rcnn": ({}, 1.0),
    "fasterrcnn": ({"lr": 1e-3}, 0.4),
    "yolo-v1": ({"lr": 3e-4}, 1.5),
    "ssd": ({"lr": 1e-3}, 1.5),
    "retinanet": ({"lr": 5e-4}, 0.7),
    "fcos": ({"lr": 1e-3}, 0.7),
    "yolo": ({"size": "nano"}, 1.5),
}
TIMED, ROUNDS = 32, 3  # images, in batches of 16, and the median of so many rounds
TIMED_BY_CROPPING = 1  # image, a window at a time


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.detect_table", description=__doc__
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("detect-table"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--backbone", default="caltech101")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--picture", type=Path, help="a photograph for every method")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    assert METHODS.keys() <= ARCHITECTURES.keys()
    harness.machine(torch.get_num_threads())
    drawn = []
    for arch in options.only:
        best = trained(arch, options)
        facts = measured(best, options)
        harness.note(model=arch, **facts)
        if options.picture is not None:
            drawn.append(picture_of(best, options))
    if drawn:
        path = options.out / f"{options.picture.stem}.table.png"
        images.save(images.grid(drawn, min(4, len(drawn)), captions=options.only), path)
        harness.note(picture=str(path))


def trained(arch: str, options: argparse.Namespace) -> Path:
    """The best checkpoint of a run that is there, or is made now."""
    out: Path = options.out / arch
    own, share = METHODS[arch]
    epochs = max(1, round(options.epochs * share))
    log = out / "log.jsonl"
    if not log.exists() or len(log.read_text().splitlines()) < epochs:
        common = {
            "data": options.data,
            "out": out,
            "arch": arch,
            "backbone": options.backbone,
            "epochs": epochs,
            "plain_epochs": max(1, epochs // 4),
            "image_size": options.image_size,
            "batch_size": options.batch_size,
            "mosaic": 0.3,
            "ema": 0.998,
            "workers": 0,
            "device": options.device,
            "resume": log.exists(),  # a run that was cut off is taken up again
        }
        train(DetectTrainConfig(**{**common, **own}))
    return out / "best.safetensors"


def measured(best: Path, options: argparse.Namespace) -> dict[str, object]:
    # What is in the folder may be of an earlier call, so the log says how long it took.
    lines = (best.parent / "log.jsonl").read_text().splitlines()
    scores = {
        score.metric: score.value
        for score in evaluate_checkpoint(options.data, "test", str(best), device=options.device)
        if isinstance(score, Score) and score.label == "all"
    }
    tensors = metadata(best)[1].values()
    detector = load(str(best), options.device)
    facts: dict[str, object] = {
        "parameters": sum(math.prod(tensor["shape"]) for tensor in tensors),
        "map": scores["map_50_95_coco101"],
        "ap50": scores["ap50_coco101"],
        "images_a_second": round(speed(detector, options.data, TIMED), 1),
        "epochs": len(lines),
        "minutes": round(sum(json.loads(line)["seconds"] for line in lines) / 60, 1),
    }
    if isinstance(detector.network, SlidingWindow):
        detector.network.by_cropping = True
        by_cropping = speed(detector, options.data, TIMED_BY_CROPPING)
        facts["images_a_second_by_cropping"] = round(by_cropping, 3)
    return facts


def speed(detector: Detector, data: Path, count: int) -> float:
    """Images of the split test a second, after one round to warm up; the median of the rounds."""
    paths = [str(s.path) for s in read_split(data, "test", detector.labels).samples[:count]]
    seconds = []
    for _ in range(1 + ROUNDS):
        begun = time.perf_counter()
        for _ in Finder(detector, Method()).predict(paths):
            pass
        seconds.append(time.perf_counter() - begun)
    return count / statistics.median(seconds[1:])


def picture_of(best: Path, options: argparse.Namespace) -> Any:
    """The photograph with the boxes that the model finds."""
    detector = load(str(best), options.device)
    [found] = detect([str(options.picture)], detector)
    assert isinstance(found, Detections)
    boxes = [(o.x1, o.y1, o.x2, o.y2) for o in found.objects]
    names, scores = [o.label for o in found.objects], [o.score for o in found.objects]
    photograph = images.as_pillow(images.read(str(options.picture)))
    return draw_boxes(photograph, boxes, names, scores, detector.labels)


if __name__ == "__main__":
    main()
