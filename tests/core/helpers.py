"""A toy training, and the command as a rank runs it, for several tests of core."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dlkit.cli import main
from dlkit.core.config import TrainConfig
from dlkit.core.parallel import distributed
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Pairs x, 3 x + 1, with noise drawn anew each time, as augmentation is."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = torch.tensor([index / 20])
        return x + 0.01 * torch.randn(1), 3 * x + 1


class Stop(Exception):
    """Stands for a kill."""


def settings(out: Path, **changed: Any) -> TrainConfig:
    given: dict[str, Any] = {
        "data": Path("toy"), "out": out, "epochs": 4, "batch_size": 4, "lr": 0.05,
        "workers": 0, "device": "cpu", "precision": "fp32", "ema": 0.9, "weight_decay": 0.0,
    }  # fmt: skip
    return TrainConfig(**{**given, **changed})


def train(
    config: TrainConfig,
    stop_in: int | None = None,
    stop_at: int = 2,
    scores: list[float] | None = None,
    signal_in: int | None = None,
    number: int = signal.SIGTERM,
    at_each_step: Callable[[Run], None] = lambda run: None,
    data: Dataset[Any] | None = None,
    norm: bool = True,
    val_losses: list[float] | None = None,
) -> Run:
    """The loop a task would write; `stop_in` breaks off in that epoch, after `stop_at` batches.

    In the third step of the epoch `signal_in` a scheduler sends that signal.
    """
    with distributed.launch(config.device, config.seed) as process:
        middle = nn.BatchNorm1d(8) if norm else nn.Tanh()
        model = nn.Sequential(nn.Linear(1, 8), middle, nn.Linear(8, 1))
        network = process.wrap(model)
        run = Run(config, process, model, Header("toy", "linear", {}, []))
        optimizer = run.optimizer(model)
        batches = run.loader(data or Noisy())
        for epoch in run.epochs(BestMetric("quality")):
            for step, (x, y) in enumerate(run.batches(batches), run.done):
                if epoch == stop_in and step == stop_at * config.accumulate:
                    raise Stop
                if epoch == signal_in and step == 2:
                    os.kill(os.getpid(), number)
                at_each_step(run)
                with run.autocast():
                    output = network(x)
                run.step((output - y).square().mean(), optimizer)
            more = {"val_loss": val_losses[epoch]} if val_losses else {}
            run.finish_epoch(quality=scores[epoch] if scores else -run.loss(), extra=1.0, **more)
    return run


SMALL = "--workers 1 --device cpu --precision fp32"


def dlkit(notices: Path, *args: object) -> None:
    """What a rank does: the command line, its stderr at the end of a file."""
    sys.stdout = sys.stderr = notices.open("a", buffering=1)
    with mock.patch("dlkit.core.train.run.curves"):  # drawing them takes longer than the training
        main([*map(str, args), *SMALL.split()])
