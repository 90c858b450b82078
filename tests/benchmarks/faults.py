"""Loss of work when processes of a training are killed: `python -m tests.benchmarks.faults`.

One process and two processes (connected by gloo) train a small GPT; at random moments one of them
gets a signal, and all are started again with `--resume auto`, as torchrun and schedulers do. At the
end the weights are compared with those of an undisturbed run.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from dlkit.cli import main as dlkit
from dlkit.core.store import checkpoint
from dlkit.core.train.run import Run
from tests.conftest import as_rank

SAVE_EVERY = 7
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)  # two of three give no warning
KILLS_OF_A_RUN = 5
PATIENCE = 10  # seconds until the other processes must have exited


@dataclass(frozen=True)
class Kill:
    """A kill: which process, at which step, and the last step saved."""

    processes: int
    rank: int
    name: str
    step: int
    saved: int
    codes: str

    def line(self, number: int) -> str:
        return (
            f"| {number} | {self.processes} | {self.rank} | {self.name} | {self.step} |"
            f" {self.saved} | {max(self.step - self.saved, 0)} | {self.codes} |"
        )


def train(folder: Path, out: Path) -> None:
    """Train in one process; write the number of each step to a file that the parent reads."""
    sys.stdout = sys.stderr = (folder / "notices").open("a", buffering=1)
    steps = np.memmap(folder / "steps", np.int64, "r+")
    taken = Run.step

    def step(run: Run, loss: Tensor, optimizer: Optimizer) -> None:
        taken(run, loss, optimizer)
        steps[run.process.rank] = run.steps

    options = (
        "--arch gpt --width 16 --layers 1 --heads 2 --context 16 --batch-size 8 --epochs 5"
        f" --steps-per-epoch 40 --save-every {SAVE_EVERY} --sample-tokens 0 --workers 1"
        " --device cpu --resume auto"
    )
    with mock.patch.object(Run, "step", step), mock.patch("dlkit.core.train.run.curves"):
        dlkit(["lm-generate", "train", str(folder / "text"), "--out", str(out), *options.split()])


def start_processes(count: int, *args: Any) -> list[Any]:
    """Start processes that are forked from a server that has imported torch."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch._dynamo", "dlkit.lm_generate.train_network", __name__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        server.Process(target=as_rank, args=(rank, count, port, train, args, {}))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def wait_for(processes: list[Any], seconds: float) -> list[int]:
    """Return the exit codes; processes that are still running are killed, as by torchrun."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(end - time.monotonic(), 0))
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def saved_steps(out: Path) -> int:
    path = out / "last.state.pt"
    return int(torch.load(path, weights_only=True)["steps"]) if path.exists() else 0


def broken_run(folder: Path, out: Path, count: int, kills: int, seconds: float) -> list[Kill]:
    """Kill a run `kills` times, then let it finish."""
    steps = np.memmap(folder / "steps", np.int64, "r+")
    found: list[Kill] = []
    while len(found) < kills:
        before = saved_steps(out)
        steps[:] = before
        processes = start_processes(count, folder, out)
        time.sleep(random.uniform(0.05, seconds))
        rank, sent = random.randrange(count), random.choice(SIGNALS)
        if any(process.exitcode is not None for process in processes):
            break
        os.kill(processes[rank].pid, sent)
        codes = wait_for(processes, PATIENCE)
        if codes == [0] * count:
            break
        shown = ", ".join(map(str, codes))
        found.append(Kill(count, rank, sent.name, int(steps.max()), saved_steps(out), shown))
    processes = start_processes(count, folder, out)
    assert wait_for(processes, 120) == [0] * count, (folder / "notices").read_text()[-2000:]
    return found


def same_result(one: Path, other: Path) -> bool:
    """Whether two runs have the same weights and the same log, except for its times."""
    files = [checkpoint.load(out / "last.safetensors")[1] for out in (one, other)]
    logs = []
    for out in (one, other):
        lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
        logs.append([{k: v for k, v in line.items() if k != "seconds"} for line in lines])
    return logs[0] == logs[1] and all(torch.equal(files[0][k], files[1][k]) for k in files[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    print("| | Processes | Rank | Signal | At step | Saved | Lost | Exit codes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    kills: list[Kill] = []
    equal = runs = 0
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        words = random.choices(["the", "cat", "dog", "saw", "a", "and", "ran"], k=4000)
        (folder / "text").write_text("\n".join(map(" ".join, zip(*[iter(words)] * 8, strict=True))))
        np.zeros(2, np.int64).tofile(folder / "steps")
        seconds: dict[int, float] = {}
        for count in (1, 2):
            for _ in range(2):  # the first one also starts the server
                whole = folder / f"whole-{count}-{time.monotonic()}"
                began = time.monotonic()
                assert wait_for(start_processes(count, folder, whole), 120) == [0] * count
                seconds[count] = time.monotonic() - began
            whole.rename(folder / f"whole-{count}")
        while len(kills) < arguments.kills:
            count = 1 + runs % 2
            runs += 1
            out = folder / f"broken-{runs}"
            left = min(KILLS_OF_A_RUN, arguments.kills - len(kills))
            for kill in broken_run(folder, out, count, left, seconds[count]):
                kills.append(kill)
                print(kill.line(len(kills)), flush=True)
            equal += same_result(folder / f"whole-{count}", out)
    most = max(kill.step - kill.saved for kill in kills)
    print(
        f"\n{len(kills)} kills in {runs} runs: {equal} of {runs} ended with the weights and the log"
        f" of an undisturbed run; at most {most} steps were lost (--save-every {SAVE_EVERY})"
    )


if __name__ == "__main__":
    main()
