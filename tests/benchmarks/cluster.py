"""Gain and cost of several processes: `python -m tests.benchmarks.cluster` on a quiet machine.

Two processes on two cores against one on one core (`dlkit classify` and its training), the start-up
of a rank against that of a single process, and the fraction of training time spent on saving the
state at the default interval.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks import harness

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
CPU = ["--workers", "1", "--device", "cpu"]

# Age of the process when its group is complete and it could read its first batch.
START = """
import sys, time
from pathlib import Path
import dlkit.classify.train
from dlkit.core.parallel.distributed import launch
from dlkit.cli import leave
with launch("cpu") as process:
    booted = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    begun = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / 100
    Path(f"{sys.argv[1]}-{process.rank}").write_text(str(time.time() - booted - begun))
leave(0)
"""

# A training run that adds up the seconds it spends on saving.
SAVING = """
import sys, time
from pathlib import Path
from dlkit.cli import main
from dlkit.core.train.run import Run
save, seconds = Run.save_within, [0.0, 0]
def timed(*args):
    began = time.monotonic()
    save(*args)
    seconds[0] += time.monotonic() - began
    seconds[1] += 1
Run.save_within = timed
began = time.monotonic()
try:
    main(sys.argv[2:])
finally:
    Path(sys.argv[1]).write_text(f"{seconds[0]} {seconds[1]} {time.monotonic() - began}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--image-size", type=int, default=64, help="of training")
    parser.add_argument("--epochs", type=int, default=2, help="of training; the last one counts")
    parser.add_argument(
        "--minutes", type=float, default=5, help="approximate minutes of the run that saves"
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    harness.machine(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw(folder / "data", options.images)
        start_of_a_rank(folder, options.repeats)
        inference(folder, options)
        rate = training(folder, options)
        saving(folder, rate, options)


def draw(folder: Path, count: int) -> None:
    """Write JPEG files of noise, 32 x 32 pixels, with two labels."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / "train" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


def time_python(processes: int, *args: object) -> float:
    """Return the seconds of `python ARGS` in N processes on N cores."""
    cores = ",".join(map(str, range(processes)))
    command = ["taskset", "-c", cores, sys.executable, *(TORCHRUN if processes > 1 else [])]
    return harness.time_process([*command, *map(str, args)])


def one_and_two(work: Callable[[int], float]) -> Mapping[str, harness.Seconds]:
    """The contenders: one process on one core, and two on two."""
    return {"one": lambda: work(1), "two": lambda: work(2)}


def start_of_a_rank(folder: Path, repeats: int) -> None:
    script = folder / "start.py"
    script.write_text(START)

    def start(processes: int) -> float:
        time_python(processes, script, folder / "age")
        ages = [float((folder / f"age-{rank}").read_text()) for rank in range(processes)]
        return max(ages)

    rounds = harness.take_turns(one_and_two(start), repeats)
    found = harness.report("start of a rank", rounds, "s wall", "one")
    harness.require(found["two"], at_most=1.2)


def inference(folder: Path, options: argparse.Namespace) -> None:
    """Compare images per second, minus the time of a run with two images."""
    few = folder / "few"
    few.mkdir()
    for path in sorted((folder / "data/train/a").iterdir())[:2]:
        (few / path.name).symlink_to(path)

    def rate(processes: int) -> float:
        args = ["-m", "dlkit", "classify", "-o", folder / "out.jsonl", *CPU]
        seconds = time_python(processes, *args, folder / "data") - time_python(
            processes, *args, few
        )
        return (options.images - 2) / seconds

    rounds = harness.take_turns(one_and_two(rate), options.repeats)
    found = harness.report("classify", rounds, "images/s", "one")
    harness.require(found["two"], at_least=1.6)


def training(folder: Path, options: argparse.Namespace) -> float:
    """Compare images per second in the last epoch; return the rate of one process."""

    def rate(processes: int) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            run = Path(out) / "run"
            time_python(
                processes, "-m", "dlkit", *train(folder, run, options.epochs, options.image_size)
            )
            last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        return float(options.images / last["seconds"])

    rounds = harness.take_turns(one_and_two(rate), options.repeats)
    found = harness.report("classify train", rounds, "images/s", "one")
    harness.require(found["two"], at_least=1.6)
    return statistics.median(of["one"] for of in rounds)


def train(folder: Path, out: Path, epochs: int, image_size: int) -> list[str]:
    command = (
        f"classify train {folder / 'data'} --out {out} --epochs {epochs} --arch resnet18"
        f" --width-multiplier 0.5 --image-size {image_size} --val-share 0"
    )
    return [*command.split(), *CPU]


def saving(folder: Path, rate: float, options: argparse.Namespace) -> None:
    """Print the fraction of its time that a training waits for its state to be saved."""
    script, report = folder / "saving.py", folder / "report"
    script.write_text(SAVING)
    images = len([*(folder / "data").rglob("*.jpg")])
    epochs = max(round(60 * options.minutes * rate / images), 1)
    time_python(1, script, report, *train(folder, folder / "saved", epochs, options.image_size))
    seconds, times, whole = map(float, report.read_text().split())
    harness.note(saving=f"{100 * seconds / whole:.2f} %", aim="< 2 %", times=times, seconds=whole)


if __name__ == "__main__":
    main()
