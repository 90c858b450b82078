"""What a training loop calls: batches, steps, resume, log, save. It never calls back.

A run's folder holds `best.safetensors` and `last.safetensors` (usable models, with the moving
average of the weights where there is one), `last.state.pt` (all that resuming needs, in one file,
so that a kill between two writes cannot mix two epochs), `log.jsonl` and `curves.png`; of models
that write texts also `samples.txt`.
"""

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler

from dlkit.core import checkpoint, device
from dlkit.core.checkpoint import Header
from dlkit.core.config import TrainConfig, settings_of, spelled
from dlkit.core.distributed import Process, seed_everything
from dlkit.core.errors import DlkitError
from dlkit.core.output import whole_file
from dlkit.core.plots import curves
from dlkit.core.progress import Bar, log
from dlkit.core.weights import find

SECONDS_BETWEEN_CURVES = 60
PLATEAU = 5  # epochs without a better score, after which the schedule of that name goes down


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class Run:
    """One training run: its counters, its optimizers, its files.

    Resuming starts the interrupted epoch again. The order of the data and all augmentation are
    seeded from (seed, epoch, rank) and the learning rate is a function of the position, so the
    weights in the end are those of a run that was never interrupted (bit for bit on the CPU).
    """

    def __init__(
        self,
        config: TrainConfig,
        process: Process,
        model: nn.Module,
        header: Header,
        renamed: Callable[[str], str] = str,
    ) -> None:
        self.config, self.process, self.model = config, process, model
        self.folder = Path(config.out)
        self.best = self.folder / "best.safetensors"
        self.header = replace(
            header,
            config=settings_of(config),
            card={"command": shlex.join(["dlkit", *sys.argv[1:]])},
        )
        device.keep_freed_memory()
        self.optimizers: list[Optimizer] = []
        self.epoch = 0
        self.position = 0.0  # epochs done, with the part of this one
        self.steps = 0
        self.best_score = -math.inf
        self.best_epoch = 0
        self.drops = self.dropped_at = 0  # of the learning rate, under the schedule plateau
        if config.ema and config.average_last:
            raise DlkitError("--ema and --average-last are two averages: choose one")
        if config.schedule == "inverse-sqrt" and not config.warmup:
            raise DlkitError(
                "--schedule inverse-sqrt falls from the end of --warmup: give it epochs"
            )
        averaged = config.ema or config.average_last
        self.average = deepcopy(model).requires_grad_(False).eval() if averaged else None
        self.losses: list[Tensor] = []
        self.curves_drawn_at = time.monotonic()
        self.state = self.open_folder()
        if self.state:
            self.restore(self.state)
        elif config.init_from:
            self.initialise(config.init_from, renamed)
        chosen = device.dtype(process.device, config.precision)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=chosen == torch.float16)

    def open_folder(self) -> dict[str, Any]:
        """The state to go on from; refuses to write over a run that nobody asked to continue."""
        path = self.folder / "last.state.pt"
        if not path.exists():
            return {}
        if not self.config.resume:
            raise DlkitError(
                f"{self.folder} holds a run already: add --resume to go on with it,"
                " or give another --out"
            )
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise DlkitError(f"{path}: damaged; remove it to start again") from error
        now = settings_of(self.config)
        # A setting that dlkit did not have then was as it is by default.
        before = {field.name: field.default for field in fields(self.config)} | state["config"]
        free = {"resume", "out", "data", "device", "workers", "precision", "init_from"}
        changed = [
            f"{spelled(k)} {before.get(k)}"
            for k in now
            if before.get(k) != now[k] and k not in free
        ]
        if changed:
            raise DlkitError(f"{self.folder} was begun with {' '.join(changed)}: resume it so")
        return state

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self.drops, self.dropped_at = state["drops"], state["dropped_at"]
        log(f"resuming {self.folder} after epoch {self.epoch}")

    def initialise(self, source: str, renamed: Callable[[str], str]) -> None:
        """Take over the weights of another model that, renamed, have a name and shape of this."""
        path = find(self.header.task, source)
        weights = {renamed(name): w for name, w in checkpoint.load(path)[1].items()}
        own = self.model.state_dict()
        fitting = {n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}
        if not fitting:
            raise DlkitError(f"{path}: none of its weights fits {self.header.arch}")
        self.model.load_state_dict(fitting, strict=False)
        if self.average is not None:
            self.average.load_state_dict(fitting, strict=False)
        log(f"{len(fitting)} of {len(own)} tensors start from {path}")

    @property
    def evaluated(self) -> nn.Module:
        """The model to evaluate and to save: the moving average, or the model itself."""
        return self.model if self.average is None else self.average

    def optimizer(
        self, module: nn.Module, slower: nn.Module | None = None, share: float = 1.0
    ) -> Optimizer:
        """By `config.optimizer`, without decay on biases and norms; resumed with the run.

        The part `slower` of the module has this share of the learning rate.
        """
        parameters = [p for p in module.parameters() if p.requires_grad]
        apart = set(slower.parameters()) if slower else set()
        groups: list[dict[str, Any]] = []
        for of_part, part in (
            (1.0, [p for p in parameters if p not in apart]),
            (share, [p for p in parameters if p in apart]),
        ):
            if part:
                flat = [p for p in part if p.dim() <= 1]
                groups.append({"params": [p for p in part if p.dim() > 1], "share": of_part})
                groups.append({"params": flat, "share": of_part, "weight_decay": 0.0})
        make = OPTIMIZERS[self.config.optimizer]
        optimizer = make(groups, lr=self.config.lr, weight_decay=self.config.weight_decay)
        if self.state:
            optimizer.load_state_dict(self.state["optimizers"][len(self.optimizers)])
        self.optimizers.append(optimizer)
        return optimizer

    def loader(
        self,
        data: Dataset[Any],
        collate: Callable[[list[Any]], Any] | None = None,
        workers: int | None = None,
    ) -> DataLoader[Any]:
        """Shuffled batches, dealt out to the processes; `batch_size` counts all of them.

        `workers` replaces the configured number, for data that needs none.
        """
        if self.config.batch_size % self.process.world_size:
            raise DlkitError(
                f"--batch-size {self.config.batch_size} does not divide"
                f" over {self.process.world_size} processes"
            )
        size = self.config.batch_size // self.process.world_size
        samples = len(data)  # type: ignore[arg-type]
        if samples == 0:
            raise DlkitError(f"{self.config.data}: no training samples")
        several = self.process.world_size > 1
        workers = self.config.workers if workers is None else workers
        return DataLoader(
            data,
            size,
            sampler=DistributedSampler(data, seed=self.config.seed)
            if several
            else RandomSampler(range(samples)),
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.process.device.type == "cuda",
            drop_last=samples >= self.config.batch_size,
            prefetch_factor=4 if workers else None,
        )

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs still to do, seeding each."""
        while self.epoch < self.config.epochs:
            waited = self.epoch - self.best_epoch
            if self.config.patience and waited >= self.config.patience:
                log(f"stopped: no better score for {waited} epochs")
                break
            number = self.epoch
            seed_everything(self.config.seed + 7919 * number + 104729 * self.process.rank)
            self.began = time.monotonic()
            yield number
            if self.epoch == number:
                raise RuntimeError("the loop did not call finish_epoch()")
        if self.process.is_main and (self.folder / "log.jsonl").exists():
            self.draw_curves()

    def batches(self, loader: DataLoader[Any]) -> Iterator[list[Tensor]]:
        """The batches of this epoch in train mode, on the device, with progress."""
        self.model.train()
        self.losses = []
        if isinstance(loader.sampler, DistributedSampler):
            loader.sampler.set_epoch(self.epoch)
        bar = Bar(f"epoch {self.epoch + 1}/{self.config.epochs}", len(loader))
        began, images = time.monotonic(), 0
        try:
            for index, batch in enumerate(loader):
                self.position = self.epoch + index / len(loader)
                yield [tensor.to(self.process.device, non_blocking=True) for tensor in batch]
                images += len(batch[0]) * self.process.world_size
                speed = images / (time.monotonic() - began)
                bar.advance(lambda speed=speed: f"loss {self.loss():.4f}  {speed:.0f}/s")  # type: ignore[misc]
        finally:
            bar.close()
        if self.config.average_last and self.average is not None:
            self.average_epochs(self.average)

    def autocast(self) -> AbstractContextManager[None]:
        return device.autocast(self.process.device, self.config.precision)

    def rate(self) -> float:
        """The learning rate here, as a share of `--lr`: linear warm-up, then the schedule."""
        if self.config.schedule == "one-cycle":
            return one_cycle(self.position / self.config.epochs)
        if self.position < self.config.warmup:
            return max(self.position, 1e-3) / self.config.warmup  # the first step moves, too
        if self.config.schedule == "inverse-sqrt":  # Vaswani et al. 2017, section 5.3
            return math.sqrt(self.config.warmup / self.position)
        rest = (self.position - self.config.warmup) / max(
            self.config.epochs - self.config.warmup, 1e-9
        )
        if self.config.schedule == "cosine":
            return 0.01 + 0.99 * (1 + math.cos(math.pi * min(rest, 1))) / 2
        if self.config.schedule == "linear":
            return 1 - 0.99 * min(rest, 1)
        if self.config.schedule == "step":
            return 0.1 ** ((rest >= 0.5) + (rest >= 0.75))
        return 0.1**self.drops if self.config.schedule == "plateau" else 1.0

    def step(self, loss: Tensor, optimizer: Optimizer) -> None:
        """One step down the gradient of `loss`: clipped, scheduled, averaged."""
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * self.rate() * group.get("share", 1.0)
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.config.clip:
            self.scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.config.clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        self.losses.append(loss.detach())
        self.steps += 1
        if self.config.ema and self.average is not None:
            # Quicker in the first steps, as in TensorFlow's.
            self.move(self.average, max(1 - self.config.ema, 9 / (10 + self.steps)))
        if self.steps % 20 == 1:
            self.check_loss()
            device.give_back_freed_memory()

    def average_epochs(self, average: nn.Module) -> None:
        """The mean of the weights after each of the last epochs; before those, the latest ones."""
        done = self.epoch - (self.config.epochs - self.config.average_last)
        self.move(average, 1 / (max(done, 0) + 1))

    @torch.no_grad()
    def move(self, average: nn.Module, share: float) -> None:
        """Move the average by this share of its distance to the model."""
        for mean, value in zip(
            average.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), share)
            else:
                mean.copy_(value)

    def loss(self) -> float:
        """Mean loss of the latest steps."""
        latest = self.losses[-50:]
        return float(torch.stack(latest).float().mean()) if latest else math.nan

    def check_loss(self) -> None:
        if not math.isfinite(float(self.losses[-1])):
            raise DlkitError(
                f"the loss is {float(self.losses[-1])} in epoch {self.epoch + 1}:"
                f" lower --lr (now {self.config.lr}); {self.folder} keeps the last good state"
            )

    def finish_epoch(self, score: float, **metrics: float) -> bool:
        """Log and save; whether `score` (higher is better) is the best so far."""
        self.check_loss()
        self.epoch += 1
        better = score > self.best_score or self.epoch == 1
        if better:
            # A first score may be nan, and then anything is better.
            self.best_score = -math.inf if math.isnan(score) else score
            self.best_epoch = self.epoch
        elif self.epoch - max(self.best_epoch, self.dropped_at) >= PLATEAU:
            self.drops, self.dropped_at = self.drops + 1, self.epoch
        loss = float(torch.stack(self.losses).float().mean())
        numbers = {"epoch": self.epoch, "loss": loss, "score": score, **metrics}
        numbers["lr"] = self.config.lr * self.rate()
        numbers["seconds"] = round(time.monotonic() - self.began, 2)
        # JSON has no nan, the value of a metric that is not defined on this data.
        record = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        if self.process.is_main:
            self.save(record, better)
            log(
                f"epoch {self.epoch}/{self.config.epochs}  loss {loss:.4f}  score {score:.4f}"
                f"{' (best)' if better else ''}  {numbers['seconds']:.0f} s"
            )
        self.process.barrier()
        return better

    def save(self, record: dict[str, Any], better: bool) -> None:
        scores = {k: v for k, v in record.items() if k not in {"lr", "seconds"}}
        header = replace(self.header, metrics=scores)
        weights = self.evaluated.state_dict()
        if better:
            checkpoint.save(self.best, weights, header)
        checkpoint.save(self.folder / "last.safetensors", weights, header)
        log_file = self.folder / "log.jsonl"
        # After a kill between two writes, the log may be one epoch ahead of the state.
        before = log_file.read_text().splitlines()[: self.epoch - 1] if self.epoch > 1 else []
        with whole_file(log_file) as partial:
            partial.write_text("".join(f"{line}\n" for line in [*before, json.dumps(record)]))
        state = {
            "config": settings_of(self.config),
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "epoch": self.epoch,
            "steps": self.steps,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "drops": self.drops,
            "dropped_at": self.dropped_at,
        }
        with whole_file(self.folder / "last.state.pt") as partial:
            torch.save(state, partial)
        if time.monotonic() - self.curves_drawn_at > SECONDS_BETWEEN_CURVES:
            self.draw_curves()

    def add_sample(self, text: str) -> None:
        """Add what the model made after this epoch to samples.txt; call before finish_epoch()."""
        if not self.process.is_main:
            return
        path = self.folder / "samples.txt"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        rule = f"{'-' * 20} epoch {self.epoch + 1}\n"
        # After a kill, there may be one of an epoch that is done again.
        before = before.partition(rule)[0]
        with whole_file(path) as partial:
            partial.write_text(f"{before}{rule}{text}\n", encoding="utf-8")

    def draw_curves(self) -> None:
        records = [
            json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()
        ]
        curves(records, self.folder / "curves.png")
        self.curves_drawn_at = time.monotonic()


def one_cycle(done: float) -> float:
    """The rate after a share `done` of the run (Smith and Topin 2019), as a share of the highest.

    It rises from a 25th over 30 % of the run and falls to a ten-thousandth, in straight lines.
    """
    if done < 0.3:
        return 0.04 + 0.96 * done / 0.3
    return 1e-4 + (1 - 1e-4) * (1 - done) / 0.7
