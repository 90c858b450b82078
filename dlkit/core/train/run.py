"""A training run: batches, steps, resuming, saving. The loop calls it; it never calls back.

Its folder is described in run_folder.py, the learning rate in schedule.py.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any, NotRequired, Protocol, TypedDict, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from dlkit.core.config import TrainConfig, option_name, settings_of
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import draw_in_training, exists, whole_file
from dlkit.core.nn.rebuild import find_misfit
from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process, shard_like
from dlkit.core.progress import Bar, duration, log
from dlkit.core.store import checkpoint, schema
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.core.train.curves import curves
from dlkit.core.train.epoch_log import UNKNOWN, BestMetric, epoch_line, make_record
from dlkit.core.train.optimizers import OPTIMIZERS
from dlkit.core.train.run_folder import RunFolder, command_card
from dlkit.core.train.sampler import (
    BatchSampler,
    SeededDataset,
    ignore_stop_signals,
    seed_everything,
)
from dlkit.core.train.schedule import PLATEAU_EPOCHS, changed_length, check_schedule, rate
from dlkit.core.train.stopping import StopSignals

CURVES_INTERVAL = 60  # seconds
SAVE_INTERVAL = 60  # seconds within an epoch, at least
MAX_SAVE_FRACTION = 0.01  # of the time
LOOKAHEAD_DECAY = 0.95**5  # of the average, at the end of a run with --lookahead
SYNC_INTERVAL = 1  # seconds, about, between two exchanges on whether to save or to stop
# Settings that may change when a run is resumed.
MAY_CHANGE = {
    "resume", "out", "data", "device", "workers", "precision", "init_from", "accumulate",
    "save_every", "parallel", "epochs",
}  # fmt: skip


DAMAGED = "damaged, or of another model; remove it to start again"


class StateFields(TypedDict):
    """The fields of last.state.pt whose types are checked when it is read."""

    config: dict[str, Any]
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    epoch: int
    steps: int
    best_epoch: int
    best_key: NotRequired[list[schema.Score]]
    improved_epoch: NotRequired[int]
    decays: NotRequired[int]
    decayed_at: NotRequired[int]
    done: NotRequired[int]
    batches: NotRequired[schema.Count]
    losses: NotRequired[Tensor]


def check_moments(optimizer: Optimizer, saved: Any) -> None:
    """Raise TypeError or ValueError unless an optimizer's state has its types and shapes."""
    for own, stored in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for name, value in own.items():
            if name != "params" and not is_alike(value, stored[name]):
                raise TypeError(name)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, moments in saved["state"].items():
        for name, value in moments.items():
            if not isinstance(value, Tensor | int | float) and name != "momentum_buffer":
                raise TypeError(name)
            if (
                isinstance(value, Tensor)
                and value.dim()
                and value.shape != parameters[number].shape
            ):
                raise ValueError(name)


def is_alike(value: Any, stored: Any) -> bool:
    """Whether a setting of an optimizer has the type of another one, and as many numbers."""
    if isinstance(value, tuple | list):
        return isinstance(stored, tuple | list) and len(stored) == len(value)
    numbers = isinstance(value, int | float) and isinstance(stored, int | float)
    return numbers or type(stored) is type(value)


class Stateful(Protocol):
    """State that a loop changes from batch to batch, with torch's interface to save and restore."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


S = TypeVar("S", bound=Stateful)


class Run:
    """One training run: its counters, its optimizers, its files.

    A resumed run continues within the epoch, before the batch of which the state was last saved.
    The order of the data, all augmentation and all random numbers of a step are seeded from (seed,
    epoch, batch, part), and the learning rate is a function of the position, so the final weights
    are those of a run that was never interrupted (bit for bit on the CPU).

    A run may be resumed with more `--epochs`, finished or not: it is prolonged. Since the rate is
    a function of the position in all epochs, its weights are not those of a run that had as many
    epochs from the start (unless the schedule does not depend on them): they are those of a run
    with the old number up to the epoch where it was resumed, and with the new one from there on.
    """

    def __init__(
        self,
        config: TrainConfig,
        process: Process,
        model: nn.Module,
        header: Header,
        rename: Callable[[str], str] = str,
    ) -> None:
        """`rename` maps names of weights of `--init-from` to names of the model's."""
        self.config, self.process, self.model = config, process, model
        self.files = RunFolder(config.out)
        self.folder, self.best = self.files.path, self.files.best
        self.header = replace(header, config=settings_of(config), card=command_card())
        device.tune_malloc()
        self.optimizers: list[Optimizer] = []
        self.epoch = 0
        self.position = 0.0  # epochs done, with the part of this one
        self.done = 0  # batches of this epoch
        self.part = 0  # of the batch, that this process computes
        self.parts, _ = process.parts(config.accumulate)
        self.steps = 0
        self.metric: BestMetric | None = None  # that selects the best checkpoint
        self.best_key: Sequence[float] = ()  # the metric's, of the best epoch
        self.best_epoch = 0
        self.improved_epoch = 0  # the latest that was better on the validation data
        self.tie_logged = False
        self.decays = self.decayed_at = 0  # of the learning rate, under the schedule plateau
        averages = [n for n in ("ema", "swa_epochs", "lookahead") if getattr(config, n)]
        if len(averages) > 1:
            given = " and ".join(map(option_name, averages))
            raise DlkitError(f"{given} are given together; choose one average")
        check_schedule(config)
        self.average = deepcopy(model).requires_grad_(False).eval() if averages else None
        self.losses: list[Tensor] = []  # of the steps of this epoch
        self.tracked: list[Stateful] = []
        self.curves_drawn_at = self.saved_at = time.monotonic()
        self.saved_batch = self.next_sync = 0  # of this epoch
        self.save_seconds = 0.0
        self.stops = StopSignals(self.files)
        self.misfits: dict[str, str] = {}  # weights that --init-from does not initialize, and why
        self.state = self.load_state()
        if self.state:
            with schema.contents(self.files.state, DAMAGED):
                self.restore(self.state)
        elif config.init_from:
            self.initialize(config.init_from, rename)
        dtype = device.dtype(process.device, config.precision)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=dtype == torch.float16)
        if self.state.get("scaler"):
            with schema.contents(self.files.state, DAMAGED):
                self.scaler.load_state_dict(self.state["scaler"])

    def load_state(self) -> dict[str, Any]:
        """The state to resume; raises DlkitError if the folder holds a run and --resume is off."""
        path = self.files.state
        if not exists(path):
            return {}
        self.files.check_free(self.config.resume)
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise DlkitError("damaged; remove it to start again", path) from error
        with schema.contents(path, DAMAGED):
            schema.check(state, StateFields, "its state", foreign=True)
            state = {name: value for name, value in state.items() if value is not None}
            self.files.check_settings(self.config, state["config"], self.header.task, MAY_CHANGE)
            begun = state["epoch"] + bool(state.get("done", 0))
        if self.config.epochs < begun:
            raise DlkitError(f"has begun epoch {begun}; give --epochs {begun} or more", self.folder)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take over weights and counters of a saved state."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.best_epoch = state["best_epoch"]
        self.improved_epoch = state.get("improved_epoch", self.best_epoch)
        # Runs of dlkit 0.2 have the rank of the metric alone.
        old_key = [state.get("best_score", UNKNOWN), UNKNOWN, UNKNOWN, self.best_epoch]
        self.best_key = state.get("best_key", old_key if self.best_epoch else [])
        # Runs of dlkit 0.1 have drops.
        self.decays = state.get("decays", state.get("drops", 0))
        self.decayed_at = state.get("decayed_at", state.get("dropped_at", 0))
        self.done = self.saved_batch = state.get("done", 0)
        if self.done:
            self.losses = list(state["losses"].to(self.process.device))
        places = set(self.process.gather([(self.epoch, self.done)]))
        if len(places) > 1:
            raise DlkitError("is not the same folder for all processes; share it", self.folder)
        self.note_saved()
        self.files.upgrade_log(self.header.task, self.epoch)
        if self.epoch < self.config.epochs:
            log(f"resuming {self.folder} {self.stops.saved}")
        self.position = self.epoch + (self.done / state["batches"] if self.done else 0)
        before = replace(self.config, epochs=state["config"]["epochs"])
        if self.config.epochs != before.epochs:
            log(changed_length(before, self.config, self.position, self.decays))

    def note_saved(self) -> None:
        """Note, for messages, that the state of this place is saved."""
        steps = f" and {self.done} steps" if self.done else ""
        self.stops.saved = f"after epoch {self.epoch}{steps}"

    def initialize(self, source: str, rename: Callable[[str], str]) -> None:
        """Load the weights of another model that, renamed, have a name and shape of this one."""
        path = find(self.header.task, source)
        weights = {rename(name): w for name, w in checkpoint.load(path)[1].items()}
        own = self.model.state_dict()
        self.misfits = {n: m for n in own if (m := find_misfit(n, own[n], weights))}
        fitting = {name: weights[name] for name in own if name not in self.misfits}
        if not fitting:
            raise DlkitError(f"none of its weights fits {self.header.arch}", path)
        self.model.load_state_dict(fitting, strict=False)
        if self.average is not None:
            self.average.load_state_dict(fitting, strict=False)
        log(f"{len(fitting)} of {len(own)} tensors start from {path}")

    @property
    def eval_model(self) -> nn.Module:
        """The model to evaluate and to save: the moving average, or the model itself."""
        return self.model if self.average is None else self.average

    def optimizer(
        self, module: nn.Module, slower: nn.Module | None = None, share: float = 1.0
    ) -> Optimizer:
        """The optimizer of `config.optimizer`, without decay on biases and norms; resumed.

        The submodule `slower` has this share of the learning rate; biases and norms have
        `--bias-lr` times that of weights.
        """
        parameters = [p for p in module.parameters() if p.requires_grad]
        apart = set(slower.parameters()) if slower else set()
        groups: list[dict[str, Any]] = []
        for part_share, part in (
            (1.0, [p for p in parameters if p not in apart]),
            (share, [p for p in parameters if p in apart]),
        ):
            if part:
                flat = [p for p in part if p.dim() <= 1]
                groups.append({"params": [p for p in part if p.dim() > 1], "share": part_share})
                bias_share = part_share * self.config.bias_lr
                groups.append({"params": flat, "share": bias_share, "weight_decay": 0.0})
        make = OPTIMIZERS[self.config.optimizer]
        optimizer = make(groups, lr=self.config.lr, weight_decay=self.config.weight_decay)
        if self.state:
            with schema.contents(self.files.state, DAMAGED):
                saved = self.state["optimizers"][len(self.optimizers)]
                own = {
                    number: shard_like(parameter, saved["state"][number])
                    for number, parameter in enumerate(p for g in groups for p in g["params"])
                    if number in saved["state"]
                }
                check_moments(optimizer, saved)
                optimizer.load_state_dict({**saved, "state": own})
        self.optimizers.append(optimizer)
        return optimizer

    def loader(
        self,
        data: Dataset[Any],
        collate: Callable[[list[Any]], Any] | None = None,
        workers: int | None = None,
    ) -> DataLoader[Any]:
        """Shuffled batches, divided among the processes; `batch_size` counts those of all.

        `workers` replaces the configured number, for data that needs none.
        """
        samples = len(data)  # type: ignore[arg-type]
        if samples == 0:
            raise DlkitError("no training samples", self.config.data)
        workers = self.config.workers if workers is None else workers
        seed, size = self.config.seed, self.config.batch_size
        parts, num_parts = self.process.parts(self.config.accumulate, size)
        return DataLoader(
            SeededDataset(data, seed),
            batch_sampler=BatchSampler(samples, size, seed, parts, num_parts),
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.process.device.type == "cuda",
            prefetch_factor=4 if workers else None,
            worker_init_fn=ignore_stop_signals,
        )

    def track(self, stateful: S) -> S:
        """Save with the state an object that a loop creates in an epoch and changes in each batch.

        Call it in the same order in each epoch. The object comes back as it was saved, where the
        run continues within this epoch, on the same number of processes.
        """
        saved = self.state.get("tracked", self.state.get("carried", []))
        if self.done and len(saved) == self.process.world_size:
            with schema.contents(self.files.state, DAMAGED):
                own = saved[self.process.rank][len(self.tracked)]
                stateful.load_state_dict(to_device(own, self.process.device))
        self.tracked.append(stateful)
        return stateful

    def epochs(self, best: BestMetric | None) -> Iterator[int]:
        """Yield the numbers of the remaining epochs, from 0, and seed each.

        `best` is the metric that selects best.safetensors, with the losses where it is equal;
        without one, for lack of validation data, each epoch is better than those before it.
        """
        self.metric = best
        trained = self.epoch < self.config.epochs
        if not trained:
            log(
                f"{self.folder} is finished after {self.epoch} epochs; give more --epochs to"
                " prolong it"
            )
        elif best is None:
            log("no validation data: the last epoch is kept as best")
        with self.stops.handlers():
            while self.epoch < self.config.epochs:
                waited = self.epoch - self.improved_epoch
                if best and self.config.patience and waited >= self.config.patience:
                    log(f"stopped: no better {best.name} for {waited} epochs")
                    break
                number = self.epoch
                self.seed(number)
                self.began = time.monotonic()
                yield number
                if self.epoch == number:
                    raise RuntimeError("the loop did not call finish_epoch()")
        if self.process.is_main and exists(self.files.log):
            self.draw_curves()
            if trained:
                log(self.summary())

    def summary(self) -> str:
        """The line at the end of a training: the best epoch, and how long it took."""
        records = self.files.read_log()
        time_taken = f"{duration(sum(record['seconds'] or 0 for record in records))} of training"
        best, place = self.metric, f"epoch {self.best_epoch} of {self.epoch}"
        if best is None:
            return f"best.safetensors is the last of {self.epoch} epochs; {time_taken}"
        value = records[self.best_epoch - 1].get(best.name)
        if value is None:
            line = f"{best.name} was nan after each epoch: best.safetensors is {place}"
        else:
            line = f"best: {best.name} {value:.4f} in {place}"
        ties = [key for key in map(best.key, records) if key[0] == self.best_key[0]]
        if len(ties) > 1:
            number = best.decider(self.best_key, sorted(ties)[-2])
            chosen = "the latest" if number == "epoch" else f"the lowest {number}"
            equal = "" if value is None else f" of {len(ties)} with this {best.name}"
            line += f" ({chosen}{equal})"
        elif self.best_epoch == 1 < self.epoch:
            line += ", never better after it; try a lower --lr"
        return f"{line}; {time_taken}"

    def seed(self, *place: int) -> None:
        """Seed the random numbers that this process draws at that place of the run."""
        own = self.parts[self.part]
        seed_everything(self.config.seed, *place, own, device=self.process.device)

    def batches(self, loader: DataLoader[Any]) -> Iterator[list[Tensor]]:
        """Yield the batches of this epoch on the device, in train mode, with progress.

        With `--accumulate` these are the parts of each batch, one after another.
        """
        self.model.train()
        total = len(loader) // len(self.parts)
        if not total:
            raise DlkitError("too few samples for a single step; lower --batch-size or give more")
        first = self.done
        if first and self.state["batches"] != total:
            raise DlkitError(
                f"was interrupted in an epoch of {self.state['batches']} steps, but now one has"
                f" {total}; resume it with the same data",
                self.folder,
            )
        parts: Iterator[Any]
        if isinstance(loader.batch_sampler, BatchSampler):
            loader.batch_sampler.epoch = loader.dataset.epoch = self.epoch  # type: ignore[attr-defined]
            loader.batch_sampler.first = first
            parts = iter(loader)
        else:
            parts = islice(loader, first * len(self.parts), None)
        bar = Bar(f"epoch {self.epoch + 1}/{self.config.epochs}", total)
        bar.advance(by=first)
        began, samples = time.monotonic(), 0
        self.next_sync = 0
        self.stops.waits_for = ""
        try:
            for number in range(first, total):
                self.position = self.epoch + number / total
                if number > first:
                    self.save_or_stop(number, total, (number - first) / (time.monotonic() - began))
                for part in range(len(self.parts)):
                    batch, self.part = next(parts), part
                    self.seed(self.epoch, number)
                    self.process.average_gradients(self.part == len(self.parts) - 1)
                    yield [tensor.to(self.process.device, non_blocking=True) for tensor in batch]
                    samples += len(batch[0]) * self.process.world_size
                speed = samples / (time.monotonic() - began)
                bar.advance(lambda speed=speed: f"loss {self.loss():.4f}  {speed:.0f} samples/s")  # type: ignore[misc]
        finally:
            bar.close()
            self.part = 0
            self.stops.waits_for = "this epoch is saved"
        if self.config.swa_epochs and self.average is not None:
            self.average_epochs(self.average)
        for model in filter(None, (self.model, self.average)):
            self.process.broadcast_buffers(model)

    def save_or_stop(self, number: int, total: int, speed: float) -> None:
        """Before batch `number` of `total`: save the state if it is time, stop if a signal came.

        All processes do the same. They exchange signals only now and then, by the `speed` of the
        main one in batches a second.
        """
        if self.process.world_size > 1 and number < self.next_sync:
            return
        if self.config.save_every:
            due = number - self.saved_batch >= self.config.save_every
        else:
            interval = max(SAVE_INTERVAL, self.save_seconds / MAX_SAVE_FRACTION)
            due = time.monotonic() - self.saved_at >= interval
        wait = max(1, int(speed * SYNC_INTERVAL))
        # Each process has its own signals; the main one decides when to save and to ask again.
        answers = list(self.process.gather([(self.stops.received, due, wait)]))
        stopped_by, (_, due, wait) = max(answer[0] for answer in answers), answers[0]
        if due or stopped_by:
            self.save_within(number, total)
        if stopped_by:
            self.stops.stop(stopped_by)
        self.next_sync = number + wait
        if self.config.save_every:
            self.next_sync = min(self.next_sync, self.saved_batch + self.config.save_every)

    def autocast(self) -> AbstractContextManager[None]:
        """The context of `--precision` for the forward pass."""
        return device.autocast(self.process.device, self.config.precision)

    def rate(self) -> float:
        """The learning rate at this position, as a share of `--lr`."""
        return rate(self.config, self.position, self.decays)

    def step(self, loss: Tensor, optimizer: Optimizer) -> None:
        """One step down the gradient of `loss`: clipped, scheduled, averaged.

        With `--accumulate` the step is taken after the last part of the batch.
        """
        if self.part == 0:
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr * self.rate() * group.get("share", 1.0)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss / len(self.parts)).backward()
        self.losses.append(loss.detach())
        if self.part < len(self.parts) - 1:
            return
        if self.config.clip_grad:
            self.scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.config.clip_grad)
        self.scaler.step(optimizer)
        self.scaler.update()
        self.steps += 1
        if self.config.ema and self.average is not None:
            # Faster in the first steps, as in TensorFlow's.
            self.move(self.average, max(1 - self.config.ema, 9 / (10 + self.steps)))
        every = self.config.lookahead
        if every and self.average is not None and self.steps % every == 0:
            self.look_ahead(self.average)
        if self.steps % 20 == 1:
            self.check_loss()
            device.trim_malloc()

    @torch.no_grad()
    def look_ahead(self, average: nn.Module) -> None:
        """Average the weights, and continue from their average (Zhang et al. 2019).

        The decay of the average rises with the cube of the position (Jordan 2024, appendix).
        """
        done = self.position / self.config.epochs
        self.move(average, 1 - LOOKAHEAD_DECAY * done**3)
        self.model.load_state_dict(average.state_dict())

    def average_epochs(self, average: nn.Module) -> None:
        """Average the weights after each of the last epochs; before those, copy the latest."""
        done = self.epoch - (self.config.epochs - self.config.swa_epochs)
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
        """Raise DlkitError if the last loss is not finite."""
        if not math.isfinite(float(self.losses[-1])):
            raise DlkitError(
                f"the loss is {float(self.losses[-1])} in epoch {self.epoch + 1}:"
                f" lower --lr (now {self.config.lr}); {self.folder} keeps the last good state"
            )

    def finish_epoch(self, **metrics: float) -> bool:
        """Log and save; return whether this epoch is the best so far.

        `metrics` are those on the validation data and others, each with its own name: the loss on
        validation data is `val_loss`. Exits, if there is more to do, where a signal asked for it.
        """
        self.check_loss()
        self.epoch += 1
        loss = float(self.mean_losses().mean())
        better_by = self.compare({"epoch": self.epoch, "loss": loss, **metrics})
        rate, seconds = self.config.lr * self.rate(), time.monotonic() - self.began
        numbers = make_record(self.epoch, loss, metrics, rate, seconds)
        self.done = self.saved_batch = 0
        self.losses, self.tracked = [], []
        # JSON has no nan, the value of a metric that is not defined on this data.
        record = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        self.save(record, better_by is not None)
        log(epoch_line(numbers, self.config.epochs, self.metric, better_by))
        stopped_by = max(self.process.gather([self.stops.received]))
        if stopped_by and self.epoch < self.config.epochs:
            self.stops.stop(stopped_by)
        return better_by is not None

    def compare(self, numbers: Mapping[str, float]) -> str | None:
        """The name of the number that makes this epoch the best so far; None if it is not.

        Only a better metric, or where it is equal a lower loss on the validation data, starts the
        wait of `--patience` and of the schedule plateau again.
        """
        if self.metric is None:
            self.best_epoch = self.improved_epoch = self.epoch
            return "epoch"
        key = self.metric.key(numbers)
        number = self.metric.decider(key, self.best_key)
        better = key > tuple(self.best_key)
        if number != self.metric.name and not self.tie_logged:
            log(self.metric.tie_line(numbers, self.best_key))
            self.tie_logged = True
        if better:
            self.best_key, self.best_epoch = key, self.epoch
        undefined = self.best_key[0] == UNKNOWN
        if undefined or better and number in {self.metric.name, "val_loss"}:
            self.improved_epoch = self.epoch
        elif self.epoch - max(self.improved_epoch, self.decayed_at) >= PLATEAU_EPOCHS:
            self.decays, self.decayed_at = self.decays + 1, self.epoch
        return number if better else None

    def mean_losses(self) -> Tensor:
        """The losses of the steps of this epoch, each the mean over the processes."""
        return self.process.mean(torch.stack(self.losses).float())

    def save(self, record: dict[str, Any], better: bool) -> None:
        """Save the models, the log and the state after an epoch."""
        scores = {k: v for k, v in record.items() if k not in {"lr", "seconds"}}
        card = dict(self.header.card)
        if self.metric and record[self.metric.name] is not None:
            score = f"{self.metric.name} {record[self.metric.name]:.3f}"
            card["score"] = f"{score} on validation data, after epoch {self.epoch}"
        header = replace(self.header, metrics=scores, card=card)
        weights = self.process.gather_tensors(self.eval_model.state_dict())
        if self.process.is_main:
            if better:
                checkpoint.save(self.best, weights, header)
            checkpoint.save(self.files.last, weights, header)
            self.files.write_log(record, self.epoch)
        self.save_state()
        if self.process.is_main and time.monotonic() - self.curves_drawn_at > CURVES_INTERVAL:
            self.draw_curves()

    def save_within(self, number: int, total: int) -> None:
        """Save the state before batch `number` of the `total` of this epoch."""
        self.done = number
        began = time.monotonic()
        losses = self.mean_losses()
        tracked = list(self.process.gather([[thing.state_dict() for thing in self.tracked]]))
        self.save_state(done=number, batches=total, losses=losses.cpu(), tracked=tracked)
        self.saved_batch, self.saved_at = number, time.monotonic()
        self.save_seconds = self.saved_at - began

    def save_state(self, **within: Any) -> None:
        """Write last.state.pt; `within` is what resuming within an epoch needs besides."""
        state = {
            "config": settings_of(self.config),
            "model": self.process.gather_tensors(self.model.state_dict()),
            "average": self.average.state_dict() if self.average is not None else {},
            "optimizers": self.process.gather_tensors([of.state_dict() for of in self.optimizers]),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "steps": self.steps,
            "best_key": list(self.best_key),
            "best_epoch": self.best_epoch,
            "improved_epoch": self.improved_epoch,
            "decays": self.decays,
            "decayed_at": self.decayed_at,
            **within,
        }
        if not self.process.is_main:
            return
        with whole_file(self.files.state) as partial, partial.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # which torch wrapped
                    raise error.__context__ from error
                raise
        self.note_saved()

    def add_sample(self, text: str) -> None:
        """Add text generated after this epoch to samples.txt; call before finish_epoch()."""
        if self.process.is_main:
            self.files.add_sample(text, self.epoch + 1)

    def draw_curves(self) -> None:
        """Draw curves.png from the log."""
        path = self.folder / "curves.png"
        draw_in_training(path, curves, self.files.read_log(), self.metric, path)
        self.curves_drawn_at = time.monotonic()


def to_device(value: Any, device: torch.device) -> Any:
    """The value of a state_dict(), with its tensors on that device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [to_device(item, device) for item in value]
    if isinstance(value, dict):
        return {name: to_device(item, device) for name, item in value.items()}
    return value
